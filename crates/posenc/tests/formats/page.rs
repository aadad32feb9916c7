//! The page's table is the code's.

/// `docs/config-formats.md`; `POSENC_WRITE_PAGES=1` writes its table.
#[test]
fn the_page_of_formats_lists_the_architectures() {
    let mut table = String::from("\n| architecture | positions |\n|---|---|\n");
    for (name, what) in posenc::config::known_gguf() {
        match what {
            Ok(what) => table += &format!("| `{name}` | {what} |\n"),
            Err(reason) => table += &format!("| `{name}` | *not read*: {reason} |\n"),
        }
    }
    table.push('\n');
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config-formats.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (start, end) = ("<!-- architectures -->\n", "<!-- end -->");
    let (before, rest) = page.split_once(start).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let expected = format!("{before}{start}{table}{end}{after}");
    if std::env::var_os("POSENC_WRITE_PAGES").is_some() {
        std::fs::write(path, &expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "docs/config-formats.md is not what the code says: POSENC_WRITE_PAGES=1 cargo test -p posenc --features config --test formats page"
    );
}

#[test]
fn names_stand_once() {
    let known = posenc::config::known_gguf();
    assert!(known.windows(2).all(|pair| pair[0].0 != pair[1].0));
}
