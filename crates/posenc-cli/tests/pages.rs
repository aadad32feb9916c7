//! What the pages name exists: each row of `docs/capabilities.md` and `docs/bug-families.md` and the tests, examples, subcommands and options in it; each line of `docs/from-the-documents.md` in its program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What can be named: read from the sources and asked of the binary.
struct Known {
    /// Tests by package and target: `lib`, `test NAME`, `example NAME`. A law is `module::law`.
    tests: BTreeMap<(String, String), BTreeSet<String>>,
    /// Structs whose documentation is a page that runs, by package.
    pages: BTreeSet<(String, String)>,
    /// Options by subcommand.
    options: BTreeMap<String, BTreeSet<String>>,
    /// Names that `--encodings` and `explain` take.
    encodings: BTreeSet<String>,
    /// Names that `show` takes.
    pictures: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn posenc(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_posenc"))
        .args(words)
        .output()
        .expect("the binary runs");
    assert!(
        output.status.success(),
        "posenc {words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

fn sources(folder: &Path, visit: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, visit);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            visit(&path, &fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// Names of `#[test]` functions, and of laws as `module` and `module::law`.
fn tests_in(source: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ")
            && is_test
        {
            tests.extend(rest.split('(').next().map(String::from));
            is_test = false;
        }
    }
    const ALL: [&str; 7] = [
        "adjoint_matches_differences",
        "fused_equals_naive",
        "prefill_equals_decoding",
        "packed_equals_alone",
        "left_padded_equals_unpadded",
        "batch_order_is_irrelevant",
        "threads_do_not_matter",
    ];
    for (at, open) in source.match_indices("\nlaws! {") {
        let body = braced(&source[at + open.len()..]);
        let Some((module, subject)) = body.split_once(':') else { continue };
        let laws: Vec<&str> = match subject.split_once("=> [").and_then(|(_, list)| list.split_once(']')) {
            Some((list, _)) => list.split(',').map(str::trim).filter(|law| !law.is_empty()).collect(),
            None => ALL.to_vec(),
        };
        tests.insert(module.trim().to_string());
        tests.extend(laws.iter().map(|law| format!("{}::{law}", module.trim())));
    }
    tests
}

/// Up to the brace that closes what was opened before `text`.
fn braced(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

impl Known {
    fn read() -> Known {
        let (mut tests, mut pages) = (BTreeMap::<_, BTreeSet<String>>::new(), BTreeSet::new());
        let packages = ["crates", "adapters"].map(|folder| fs::read_dir(root().join(folder)).expect("a folder of packages"));
        for package in packages
            .into_iter()
            .flatten()
            .flatten()
            .filter(|package| package.path().join("Cargo.toml").is_file())
        {
            let name = package.file_name().to_string_lossy().into_owned();
            sources(&package.path(), &mut |path, source| {
                let inside = path.strip_prefix(package.path()).expect("inside");
                let mut parts = inside.iter().map(|part| part.to_string_lossy().trim_end_matches(".rs").to_string());
                let target = match (parts.next().as_deref(), parts.next()) {
                    (Some("src"), _) => "lib".to_string(),
                    (Some("tests"), Some(target)) => format!("test {target}"),
                    (Some("examples"), Some(target)) => format!("example {target}"),
                    _ => return,
                };
                tests.entry((name.clone(), target)).or_default().extend(tests_in(source));
                for (at, _) in source.match_indices("#[cfg(doctest)]") {
                    let page = source[at..].split("struct ").nth(1).and_then(|rest| rest.split(';').next());
                    pages.extend(page.map(|page| (name.clone(), page.to_string())));
                }
            });
        }
        let mut options = BTreeMap::new();
        for line in posenc(&["--help"])
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
        {
            if let Some(command) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
                let command = command.split_whitespace().next().expect("a name").to_string();
                let help = posenc(&[&command, "--help"]);
                let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
                let named = words
                    .filter(|word| word.len() > 2 && word.starts_with("--"))
                    .map(String::from)
                    .collect();
                options.insert(command, named);
            }
        }
        let listed: serde_json::Value = serde_json::from_str(&posenc(&["list", "--json"])).expect("JSON");
        let mut encodings = BTreeSet::new();
        names(&listed, &mut encodings);
        let listed = posenc(&["show", "--list"]);
        let pictures = listed.lines().skip(2).filter(|line| !line.starts_with([' ', '`']));
        let pictures = pictures.filter_map(|line| line.split_whitespace().next()).chain(["all"]);
        Known {
            tests,
            pages,
            options,
            encodings,
            pictures: pictures.map(String::from).collect(),
        }
    }

    /// What is wrong with a command, if anything.
    fn check(&self, command: &str) -> Result<(), String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        match &words[..] {
            ["posenc", subcommand, rest @ ..] => self.check_posenc(subcommand, rest),
            ["cargo", "test", "-p", package, rest @ ..] => self.check_test("crates", package, rest),
            ["cargo", "test", "--manifest-path", "adapters/Cargo.toml", "-p", package, rest @ ..] => {
                self.check_test("adapters", package, rest)
            }
            ["cargo", "run", "-p", package, "--example", example] => {
                let key = (package.to_string(), format!("example {example}"));
                self.tests
                    .contains_key(&key)
                    .then_some(())
                    .ok_or(format!("{package} has no example {example}"))
            }
            _ => Err("not a command of a known form".to_string()),
        }
    }

    fn check_posenc(&self, subcommand: &str, rest: &[&str]) -> Result<(), String> {
        let options = self.options.get(subcommand).ok_or(format!("there is no `posenc {subcommand}`"))?;
        let mut previous = "";
        for word in rest {
            if word.starts_with("--") && !options.contains(*word) {
                return Err(format!("`posenc {subcommand}` has no {word}"));
            }
            let is_file = word.ends_with(".json");
            if is_file && !root().join(word).exists() {
                return Err(format!("there is no file {word}"));
            }
            if !is_file && (previous == "--encodings" || (subcommand == "explain" && previous.is_empty() && !word.starts_with("--"))) {
                for name in word.split([',', '+']) {
                    if !self.encodings.contains(name) {
                        return Err(format!("`posenc list` does not know {name}"));
                    }
                }
            }
            if subcommand == "show" && previous.is_empty() && !self.pictures.contains(*word) {
                return Err(format!("`posenc show` does not know {word}"));
            }
            previous = word;
        }
        Ok(())
    }

    fn check_test(&self, folder: &str, package: &str, rest: &[&str]) -> Result<(), String> {
        let of_package: Vec<_> = self.tests.iter().filter(|((name, _), _)| name == package).collect();
        if of_package.is_empty() || !root().join(folder).join(package).is_dir() {
            return Err(format!("there is no package {package} in {folder}"));
        }
        let (targets, filter): (Vec<_>, &[&str]) = match rest {
            ["--features", feature, rest @ ..] => {
                let manifest = fs::read_to_string(root().join(format!("{folder}/{package}/Cargo.toml"))).unwrap_or_default();
                let has = manifest.lines().any(|line| line.starts_with(&format!("{feature} = [")));
                return match has {
                    true => self.check_test(folder, package, rest),
                    false => Err(format!("{package} has no feature {feature}")),
                };
            }
            ["--doc", page] => {
                let key = (package.to_string(), page.to_string());
                return self
                    .pages
                    .contains(&key)
                    .then_some(())
                    .ok_or(format!("{package} runs no page {page}"));
            }
            [kind @ ("--test" | "--example"), target, filter @ ..] => {
                let key = format!("{} {target}", kind.trim_start_matches('-'));
                let found: Vec<_> = of_package.into_iter().filter(|((_, target), _)| *target == key).collect();
                if found.is_empty() {
                    return Err(format!("{package} has no {key}"));
                }
                (found, filter)
            }
            filter => (of_package, filter),
        };
        match filter {
            [] => Ok(()),
            [name] => {
                let is_it = |test: &String| test == name || test.ends_with(&format!("::{name}"));
                let found = targets.iter().any(|(_, tests)| tests.iter().any(is_it));
                found.then_some(()).ok_or(format!("no test is called {name}"))
            }
            _ => Err("more than one filter".to_string()),
        }
    }
}

/// Every string under a key `name`, and in a list under `aliases`.
fn names(value: &serde_json::Value, into: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            if let Some(name) = fields.get("name").and_then(|name| name.as_str()) {
                into.insert(name.to_string());
            }
            let aliases = fields.get("aliases").and_then(|aliases| aliases.as_array());
            into.extend(aliases.into_iter().flatten().filter_map(|alias| alias.as_str()).map(String::from));
            fields.values().for_each(|value| names(value, into));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| names(item, into)),
        _ => {}
    }
}

/// The cells of a row of a table.
fn cells(line: &str) -> Vec<String> {
    let line = line.replace("\\|", "¦");
    line.trim()
        .trim_matches('|')
        .split('|')
        .map(|cell| cell.trim().to_string())
        .collect()
}

/// What stands between backticks.
fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What is wrong with a table of capabilities.
fn complaints(page: &str, known: &Known) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut next = 1;
    for line in page
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
    {
        let cells = cells(line);
        let [number, _, state, shown] = &cells[..] else {
            complaints.push(format!("{line}: not four cells"));
            continue;
        };
        if number != &next.to_string() {
            complaints.push(format!("row {number} stands where row {next} is due"));
        }
        next += 1;
        let issue = |text: &str| {
            text.strip_prefix('#')
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        let (here, known_state) = match state.as_str() {
            "here" => (true, true),
            state if state.starts_with("here, ") => (true, issue(&state[6..])),
            state if state.starts_with("left out: ") => (false, true),
            state => (false, issue(state)),
        };
        if !known_state {
            complaints.push(format!("row {number}: no such state: {state}"));
        }
        let commands = spans(shown);
        if here == commands.is_empty() {
            complaints.push(format!("row {number}: what is here has commands, what is not has none"));
        }
        for command in commands {
            if let Err(why) = known.check(command) {
                complaints.push(format!("row {number}: `{command}`: {why}"));
            }
        }
    }
    for line in page.lines().filter(|line| line.starts_with("| + |")) {
        let cells = cells(line);
        let commands = cells.last().map_or(Vec::new(), |shown| spans(shown));
        if cells.len() != 3 || commands.is_empty() {
            complaints.push(format!("{line}: a sign, a capability and its commands"));
        }
        for command in commands {
            if let Err(why) = known.check(command) {
                complaints.push(format!("`{command}`: {why}"));
            }
        }
    }
    if next != 57 {
        complaints.push(format!("{} rows of 56", next - 1));
    }
    complaints
}

#[test]
fn every_command_of_the_capabilities_exists() {
    let page = fs::read_to_string(root().join("docs/capabilities.md")).expect("the page");
    assert_eq!(complaints(&page, &Known::read()), [""; 0]);
}

/// What is wrong with the table of mistakes: thirty rows, each with a test or an issue, each test in the row of its own family, and none left out.
fn mistakes(page: &str, known: &Known) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut named = BTreeSet::new();
    let family = |test: &str| test.split("bug_family_").nth(1)?.split('_').next()?.parse::<usize>().ok();
    let rows: Vec<Vec<String>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
        .map(cells)
        .collect();
    for (i, row) in rows.iter().enumerate() {
        let [number, _, answer, shown] = &row[..] else {
            complaints.push(format!("row {}: not four cells", i + 1));
            continue;
        };
        if number != &(i + 1).to_string() {
            complaints.push(format!("row {number} stands where row {} is due", i + 1));
        }
        let commands = spans(shown);
        if commands.is_empty() && !answer.contains('#') {
            complaints.push(format!("row {number}: neither a test nor an issue"));
        }
        for command in commands {
            if let Err(why) = known.check(command) {
                complaints.push(format!("row {number}: `{command}`: {why}"));
            }
            if family(command).is_some_and(|family| family != i + 1) {
                complaints.push(format!("row {number}: `{command}` is of another family"));
            }
            named.extend(command.split_whitespace().next_back());
        }
    }
    if rows.len() != 30 {
        complaints.push(format!("{} rows of 30", rows.len()));
    }
    for test in known.tests.values().flatten().filter(|test| family(test).is_some()) {
        if !named.contains(test.as_str()) {
            complaints.push(format!("{test} is in no row"));
        }
    }
    complaints
}

#[test]
fn every_family_of_mistakes_has_its_test_or_its_issue() {
    let (page, known) = (
        fs::read_to_string(root().join("docs/bug-families.md")).expect("the page"),
        Known::read(),
    );
    assert_eq!(mistakes(&page, &known), [""; 0]);
    // The check is one that can fail.
    let shorter: String = page
        .lines()
        .filter(|line| !line.starts_with("| 26 |"))
        .map(|line| format!("{line}\n"))
        .collect();
    let found = mistakes(&shorter, &known);
    assert!(found.iter().any(|c| c.starts_with("29 rows")) && found.iter().any(|c| c.starts_with("bug_family_26")));
    let exchanged = page.replace(
        "bug_family_20_alibi_sign_offset_slopes_and_padding",
        "bug_family_23_learned_offsets",
    );
    assert!(mistakes(&exchanged, &known).iter().any(|c| c.ends_with("is of another family")));
    let renamed = page.replace("bug_family_22_t5", "bug_family_22_t6");
    assert!(mistakes(&renamed, &known).iter().any(|c| c.contains("no test is called")));
}

/// Commands on a page with what they print: `$ posenc …`, its stdout, or its stderr where stdout goes to a file.
#[test]
fn pages_show_what_commands_print() {
    let page = fs::read_to_string(root().join("docs/explain-a-model.md")).expect("the page");
    let blocks: Vec<&str> = page
        .split("```console\n")
        .skip(1)
        .filter_map(|rest| rest.split("\n```").next())
        .collect();
    assert!(blocks.len() >= 3, "{}", blocks.len());
    for block in blocks {
        let (command, shown) = block.split_once('\n').expect("a command and its output");
        let typed = command.strip_prefix("$ posenc ").expect("a command of this program");
        let (typed, redirected) = match typed.split_once(" > ") {
            Some((typed, _)) => (typed, true),
            None => (typed, false),
        };
        let ran = Command::new(env!("CARGO_BIN_EXE_posenc"))
            .args(typed.split_whitespace())
            .current_dir(root())
            .output()
            .expect("the binary runs");
        let printed = if redirected { ran.stderr } else { ran.stdout };
        let printed = String::from_utf8(printed).expect("text");
        assert!(ran.status.success(), "{command}");
        assert_eq!(printed.trim_end(), shown, "{command}: write its output into the page");
    }
}

/// The check is one that can fail.
#[test]
fn a_wrong_name_is_found() {
    let known = Known::read();
    for right in [
        "cargo test -p posenc the_three_forms_are_one",
        "cargo test -p posenc --test laws rotary_halves::adjoint_matches_differences",
        "cargo test -p posenc --test laws t5_capped::fused_equals_naive",
        "cargo test -p posenc --example own_encoding",
        "cargo test -p posenc-nn --test golden",
        "cargo test -p posenc-nn --doc FromTheDocuments",
        "posenc compare --encodings rotary,alibi --steps 600",
        "posenc explain rotary+alibi --json",
        "posenc explain xpos",
        "cargo test -p posenc --features config bug_family_27_layers_without_positions",
        "posenc explain crates/posenc/src/config/fixtures/llama-3.1-8b.json --length 262144",
    ] {
        assert_eq!(known.check(right), Ok(()), "{right}");
    }
    for wrong in [
        "cargo test -p posenc the_three_forms_are_two",
        "cargo test -p posenc --test laws the_three_forms_are_one",
        "cargo test -p posenc --test laws rotary_thirds",
        "cargo test -p posenc --test laws rotary_is_relative::prefill_equals_decoding",
        "cargo test -p posenc --test law rotary_halves",
        "cargo test -p posenc-nn the_three_forms_are_one",
        "cargo test -p posenc-burn the_three_forms_are_one",
        "cargo test -p posenc --example document_002",
        "cargo test -p posenc-nn --doc Readme",
        "cargo run -p posenc --example document_002",
        "posenc comparison",
        "posenc compare --step 600",
        "posenc compare --encodings rotary,albi",
        "posenc explain rotery --formula",
        "posenc explain nowhere.json",
        "posenc show rotations",
        "posenc show rotation --frequency 3",
        "make test",
        "cargo test -p posenc --features konfig bug_family_27_layers_without_positions",
    ] {
        assert!(known.check(wrong).is_err(), "{wrong}");
    }
    let page = |row: &str| complaints(row, &known).len();
    let missing = 1;
    assert_eq!(page("| 1 | x | here | `posenc list` |"), missing);
    assert_eq!(page("| 1 | x | here | |"), missing + 1);
    assert_eq!(page("| 1 | x | there | |"), missing + 1);
    assert_eq!(page("| 1 | x | #3 | `posenc list` |"), missing + 1);
    assert_eq!(page("| 2 | x | here, #3 | `posenc list` |"), missing + 1);
    assert_eq!(page("| 1 | x | here | `posenc lost` |"), missing + 1);
    assert_eq!(page("| + | x | `posenc list` |"), missing);
    assert_eq!(page("| + | x | `posenc lost` |"), missing + 1);
    assert_eq!(page("| + | x | |"), missing + 1);
}

/// Each line of a table of the documents' names, its first name, must stand in a comment of the program that follows.
#[test]
fn every_line_from_the_documents_is_in_its_program() {
    let page = fs::read_to_string(root().join("docs/from-the-documents.md")).expect("the page");
    let page = page.split("## Where the documents disagree").next().expect("a page");
    let tables: Vec<&str> = page.split("| in the document | here |").skip(1).collect();
    assert!(tables.len() >= 7);
    for table in tables {
        let program = table
            .split("```rust")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .expect("a program");
        let comments: String = program
            .lines()
            .filter_map(|line| line.split_once("//"))
            .map(|(_, comment)| format!("{comment}\n"))
            .collect();
        for row in table
            .trim_start()
            .lines()
            .take_while(|line| line.starts_with('|'))
            .filter(|line| !line.starts_with("|---"))
        {
            let cell = cells(row).swap_remove(0);
            let names = spans(&cell);
            let quoted = cell.split('"').nth(1);
            let wanted: Vec<&str> = if names.is_empty() { vec![quoted.unwrap_or(&cell)] } else { names };
            for name in wanted {
                let plain = name.split(['(', '[', ' ', '=']).next().expect("a word");
                assert!(comments.contains(plain), "`{name}` is in no comment of the program below\n{row}");
            }
        }
    }
}
