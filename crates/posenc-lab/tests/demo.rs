//! The demonstrations against what they demonstrate.

#[path = "../../posenc/examples/document_003.rs"]
#[allow(dead_code, reason = "an example with a main of its own, of which one function is called here")]
mod document_003;

use posenc::Rng;
use posenc_lab::demo::rotary_bug::{Code, turn};

/// The code that is measured is the document's: the port of its sample, bit for bit.
#[test]
fn the_sample_that_is_measured_is_the_one_of_the_document() {
    let mut rng = Rng::new(7);
    for d in [2, 4, 8, 64] {
        let x: Vec<f64> = (0..d).map(|_| rng.normal()).collect();
        for position in [0.0, 1.0, 4.0, 511.0] {
            let printed = document_003::rotary_embedding_as_printed(&x, position, 10_000.0);
            assert_eq!(turn(Code::AsPrinted, &x, position, 10_000.0), printed);
        }
    }
}
