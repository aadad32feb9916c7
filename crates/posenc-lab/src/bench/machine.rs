//! What measurements ran on, as far as the system says.

use posenc::Isa;
use serde::Serialize;
use std::path::Path;

/// A processor and what of it was used.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Machine {
    /// Its name, where the system tells it.
    pub processor: Option<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Caches of the first core that hold data, the nearest first; none where the system does not tell them.
    pub caches: Vec<Cache>,
    /// The instruction set that the kernels ran on.
    pub isa: &'static str,
    /// Those that the processor has.
    pub present: Vec<&'static str>,
}

/// A cache that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cache {
    /// 1 is the nearest to a core.
    pub level: usize,
    /// What it holds.
    pub bytes: usize,
}

impl Machine {
    /// This one. Name and caches are known under Linux.
    pub fn this() -> Machine {
        let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Machine {
            processor: processor(&information),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            caches: caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
            isa: Isa::current().name(),
            present: Isa::present().map(Isa::name).collect(),
        }
    }
}

/// The first name in the text of `/proc/cpuinfo`.
fn processor(information: &str) -> Option<String> {
    let (_, name) = information
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")?;
    Some(name.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The caches that a folder of the kernel's lists, `index0` and on, without those of instructions.
fn caches(folder: &Path) -> Vec<Cache> {
    let read = |index: usize| {
        let file = |name: &str| std::fs::read_to_string(folder.join(format!("index{index}")).join(name)).ok();
        Some([file("level")?, file("type")?, file("size")?])
    };
    let parse = |[level, holds, size]: [String; 3]| {
        let kibibytes: usize = size.trim().strip_suffix('K')?.parse().ok()?;
        let cache = Cache {
            level: level.trim().parse().ok()?,
            bytes: kibibytes.checked_mul(1024)?,
        };
        (holds.trim() != "Instruction").then_some(cache)
    };
    (0..).map_while(read).filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_and_its_spaces_are_one() {
        let text = "processor\t: 0\nvendor_id\t: X\nmodel name\t: Some  CPU @ 2 GHz\n\nmodel name\t: Other\n";
        assert_eq!(processor(text).as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(processor("Features\t: fp asimd\n"), None);
    }

    #[test]
    fn caches_of_data_are_listed_and_what_cannot_be_read_is_left_out() {
        let folder = std::env::temp_dir().join(format!("posenc-caches-{}", std::process::id()));
        let listed = [
            ("1", "Data", "48K"),
            ("1", "Instruction", "64K"),
            ("2", "Unified", "2048K"),
            ("3", "Unified", "many"),
        ];
        for (i, (level, holds, size)) in listed.into_iter().enumerate() {
            let index = folder.join(format!("index{i}"));
            std::fs::create_dir_all(&index).unwrap();
            for (name, text) in [("level", level), ("type", holds), ("size", size)] {
                std::fs::write(index.join(name), format!("{text}\n")).unwrap();
            }
        }
        let found: Vec<(usize, usize)> = caches(&folder).iter().map(|cache| (cache.level, cache.bytes)).collect();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, [(1, 48 << 10), (2, 2 << 20)]);
        assert_eq!(caches(&folder), []);
    }
}
