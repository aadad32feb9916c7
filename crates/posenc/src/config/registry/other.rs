//! Model types that are known and not read, each with its reason.

pub(in super::super) static UNEXPRESSED: &[(&str, &str)] = &[
    ("efficientloftr", "the whole width turns, before it is split into heads"),
    (
        "musicflamingo",
        "positions are seconds of sound, and time turns a share of the whole width",
    ),
    (
        "llama4_vision_model",
        "rows and columns count from 1 and the class token is not turned",
    ),
    ("lightglue", "the frequencies are learned from keypoints"),
];
