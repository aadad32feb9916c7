//! A picture as PNG: its SVG, drawn with a font that travels with the program.

use std::sync::{Arc, OnceLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::Picture;
use super::page::{MARK, Theme, svg};

/// DejaVu Sans with the characters that pictures use; `assets/LICENSE-DejaVu` is its licence.
const FONT: &[u8] = include_bytes!("../../../assets/DejaVuSans-subset.ttf");
const FAMILY: &str = "DejaVu Sans";

/// Pixels per unit of the SVG: text stays sharp on a dense screen and in print.
const SCALE: f32 = 2.0;

/// The key and value by which a PNG says who wrote it.
pub const SOFTWARE: (&str, &str) = ("Software", MARK);

/// The bytes of the file.
pub fn png(picture: &Picture, dark: bool) -> Vec<u8> {
    let text = svg(picture, if dark { Theme::Dark } else { Theme::Light });
    let options = Options {
        font_family: FAMILY.into(),
        fontdb: fonts(),
        ..Options::default()
    };
    let tree = Tree::from_str(&text, &options).expect("our SVG is well-formed");
    let size = tree.size().to_int_size().scale_by(SCALE).expect("a sheet has a size");
    let mut pixels = Pixmap::new(size.width(), size.height()).expect("a sheet has a size");
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    encode(&pixels)
}

fn fonts() -> Arc<fontdb::Database> {
    static FONTS: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    let load = || {
        let mut fonts = fontdb::Database::new();
        fonts.load_font_data(FONT.to_vec());
        fonts.set_sans_serif_family(FAMILY);
        Arc::new(fonts)
    };
    FONTS.get_or_init(load).clone()
}

/// Without transparency: the sheet covers everything.
fn encode(pixels: &Pixmap) -> Vec<u8> {
    let opaque: Vec<u8> = pixels.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, pixels.width(), pixels.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder
        .add_text_chunk(SOFTWARE.0.into(), SOFTWARE.1.into())
        .and_then(|()| encoder.write_header())
        .and_then(|mut writer| writer.write_image_data(&opaque));
    written.expect("memory takes every byte");
    bytes
}
