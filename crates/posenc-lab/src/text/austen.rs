//! The bundled text: six novels by Jane Austen, compiled in. Provenance, licence and checksums are in `data/README.md`.

use std::io::Read;

use flate2::read::GzDecoder;

/// What a person calls the bundled text.
pub const BUNDLED_NAME: &str = "six novels by Jane Austen";

/// One novel.
#[derive(Clone, Copy, Debug)]
pub struct Novel {
    /// Its title.
    pub title: &'static str,
    /// Not trained on.
    pub held_out: bool,
    packed: &'static [u8],
}

impl Novel {
    /// The whole text, unpacked.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // The bytes are part of the program, and a test unpacks every one of them: this cannot depend on a user.
        GzDecoder::new(self.packed)
            .read_to_string(&mut text)
            .expect("the bundled novels unpack");
        text
    }
}

macro_rules! novel {
    ($title:literal, $file:literal, held_out: $held_out:literal) => {
        Novel {
            title: $title,
            held_out: $held_out,
            packed: include_bytes!(concat!("../../../../data/austen/", $file, ".txt.gz")),
        }
    };
}

/// The six novels, in the order in which they are read.
pub fn novels() -> [Novel; 6] {
    [
        novel!("Emma", "emma", held_out: false),
        novel!("Mansfield Park", "mansfield_park", held_out: false),
        novel!("Northanger Abbey", "northanger_abbey", held_out: false),
        novel!("Persuasion", "persuasion", held_out: true),
        novel!("Pride and Prejudice", "pride_and_prejudice", held_out: false),
        novel!("Sense and Sensibility", "sense_and_sensibility", held_out: false),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_novel_unpacks_to_the_size_in_the_readme() {
        let readme = include_str!("../../../../data/README.md").replace(',', "");
        for novel in novels() {
            let text = novel.text();
            assert!(text.ends_with('\n') && !text.contains('\r'), "{}", novel.title);
            assert!(
                readme.contains(&format!("| {} (", novel.title)) && readme.contains(&format!("| {} |", text.len())),
                "{}",
                novel.title
            );
            assert!(text[..40].to_lowercase().contains(&novel.title.to_lowercase()), "{}", novel.title);
        }
    }
}
