//! Learned tables: a row per id, and none past the last.

use super::count::Lengths;
use super::{Class, Finding, Unseen, What};
use crate::embed::Overflow;
use crate::words::{Words, decimal, grouped, words};

/// Where the rows are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To the token embeddings, once.
    Embeddings,
    /// To the queries and keys of each layer (document 002).
    Attention,
}

/// The number of ids that the rows are stretched over, where a policy stretches them.
pub(crate) fn stretched_over(rows: u64, overflow: Overflow, length: u64) -> Option<u64> {
    let ids = match overflow {
        Overflow::Interpolate => length,
        Overflow::InterpolateTo(ids) => ids as u64,
        Overflow::Error | Overflow::Clamp | Overflow::Wrap => return None,
    };
    (ids > rows).then_some(ids)
}

/// A table with rows for the ids `0 .. rows`.
pub(crate) fn table(place: Place, rows: u64, overflow: Overflow, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let stretched = stretched_over(rows, overflow, length);
    // Ids below this one are read as training read them.
    let known = if stretched.is_some() { 1 } else { rows.min(trained) };
    let mut found = match stretched {
        Some(ids) if length <= ids => stretched_rows(rows, ids, lengths),
        Some(ids) => past_the_table(ids, Overflow::Error, lengths),
        None if length > rows => past_the_table(rows, overflow, lengths),
        None => untrained_rows(lengths),
    };
    if length > rows && rows > trained && stretched.is_none() {
        let last = rows - 1;
        found
            .out_of_distribution
            .push(Unseen::new(What::Ids, rows - trained, length, untrained()));
        found.answer = found.answer.and(words!(
            "The rows {trained} to {last} exist, but training never moved them.",
            "第 {trained} 到 {last} 行虽然存在，但从未被训练更新。"
        ));
    }
    found.out_of_distribution.push(Unseen::new(
        What::Pairs,
        lengths.pairs_querying_from(known),
        lengths.pairs(),
        words!(
            "causal pairs whose query has an id of {known} or more",
            "查询编号不小于 {known} 的因果对"
        ),
    ));
    if place == Place::Attention {
        found.expect = found.expect.and(words!(
            "The same holds in each attention layer; values carry no position and stay as they are.",
            "每个注意力层都是如此；值向量不带位置，不受影响。"
        ));
    }
    found
}

fn untrained() -> Words {
    words!("ids whose row was never trained", "对应行从未训练过的编号")
}

/// There is no row for the last ids.
fn past_the_table(rows: u64, overflow: Overflow, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let (last, known) = (rows - 1, rows.min(trained));
    let missing = lengths.ids_from(rows);
    let (new, sharing) = (grouped(missing), grouped(missing + 1));
    let without_row = |note: Words| Unseen::new(What::Ids, missing, length, note);
    match overflow {
        // A stretched table serves as many ids as it is stretched over, and refuses the next like any other.
        Overflow::Error | Overflow::Interpolate | Overflow::InterpolateTo(_) => Finding {
            method: String::new(),
            class: Class::Cannot,
            answer: words!(
                "It does not run: the table serves the ids 0 to {last} and has no row for the {new} ids from {rows} on.",
                "不能运行：表只覆盖编号 0 到 {last}，编号从 {rows} 起的 {new} 个位置没有对应的行。"
            ),
            out_of_distribution: vec![without_row(words!("ids without a row", "没有对应行的编号"))],
            expect: words!(
                "Elsewhere the same input is an IndexError (PyTorch on the CPU), a device assert (CUDA), NaN (jnp.take), or silently the last row (x[idx] in JAX).",
                "在其他框架中，同样的输入会得到 IndexError（PyTorch，CPU）、设备断言（CUDA）、NaN（jnp.take），或被悄悄换成最后一行（JAX 的 x[idx]）。"
            ),
            advice: words!(
                "Shorten the input to {known} tokens, or read it in windows of that many. Or name an overflow policy and pay its price: clamp lets {sharing} tokens share row {last}, \
                 so their order is lost; wrap gives {new} tokens an id that another token has; interpolate moves every row but the first and needs fine-tuning. \
                 Or train with a longer table, or with an encoding that has no table.",
                "把输入缩短到 {known} 个词元，或按这一长度分窗读取。也可以指定溢出策略，但各有代价：clamp 让 {sharing} 个词元共用第 {last} 行，它们的顺序丢失；\
                 wrap 让 {new} 个词元与别的词元编号相同；interpolate 使除第一行外的每一行都移动，需要微调。或者用更长的表训练，或换用没有表的编码。"
            ),
        },
        Overflow::Clamp => Finding {
            method: String::new(),
            class: Class::CanButBreaks,
            answer: words!(
                "It runs, because the table clamps: the {sharing} tokens from id {last} on share row {last}, so their order is lost.",
                "能运行，因为超出的编号被截到表尾：编号从 {last} 起的 {sharing} 个词元共用第 {last} 行，它们的顺序丢失。"
            ),
            out_of_distribution: vec![without_row(words!(
                "ids without a row of their own, read at row {last}",
                "没有自己的行、改读第 {last} 行的编号"
            ))],
            expect: words!(
                "Training never showed two tokens at the same place; no published loss is known to us. Expect the part past id {last} to read like a bag of words.",
                "训练中从未有两个词元处于同一位置；我们未见已发表的损失数据。预计编号 {last} 之后的部分会像词袋一样被读取。"
            ),
            advice: words!(
                "Use it for an overrun of a few tokens. For more, read in windows of {rows} tokens, or train with a longer table.",
                "只适合略微超长的情况。超出更多时，请按 {rows} 个词元分窗读取，或用更长的表训练。"
            ),
        },
        Overflow::Wrap => Finding {
            method: String::new(),
            class: Class::CanButBreaks,
            answer: words!(
                "It runs, because the ids wrap around: the {new} tokens from id {rows} on carry ids that earlier tokens already have.",
                "能运行，因为编号会回绕：编号从 {rows} 起的 {new} 个词元使用前面词元已有的编号。"
            ),
            out_of_distribution: vec![without_row(words!(
                "ids read modulo {rows}, where another token already stands",
                "按模 {rows} 读取的编号，该处已有另一个词元"
            ))],
            expect: words!(
                "Training never showed two tokens at the same place, nor a token after {last} at 0; no published loss is known to us.",
                "训练中从未有两个词元处于同一位置，也从未在 {last} 之后接着出现 0；我们未见已发表的损失数据。"
            ),
            advice: words!(
                "Use it only where the tokens past {last} do not attend to those before, as in packed documents; otherwise read in windows of {rows} tokens.",
                "仅当 {last} 之后的词元不关注之前的词元时（例如打包的多篇文档）才使用；否则请按 {rows} 个词元分窗读取。"
            ),
        },
    }
}

/// The rows are stretched over `ids` ids.
fn stretched_rows(rows: u64, ids: u64, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let last = rows - 1;
    // The id i is read at i · last / (ids − 1), which is a row if (ids − 1) / gcd divides i.
    let on_rows = (length - 1) / ((ids - 1) / gcd(ids - 1, last)) + 1;
    let moved = length - on_rows;
    let new = grouped(moved);
    let step = decimal(last as f64 / (ids - 1) as f64, 3);
    Finding {
        method: String::new(),
        class: Class::CanButBreaks,
        answer: words!(
            "It runs, because the table is stretched over {ids} ids: neighbours are {step} rows apart instead of 1, and {new} tokens are read between two rows.",
            "能运行，因为整张表被拉伸到 {ids} 个编号：相邻词元相距 {step} 行而不是 1 行，{new} 个词元落在两行之间。"
        ),
        out_of_distribution: vec![Unseen::new(
            What::Ids,
            moved,
            length,
            words!("ids read between two rows", "落在两行之间的编号"),
        )],
        expect: words!(
            "Vision models lose little by it after a short fine-tuning (ViT, arXiv 2010.11929). Without it all distances have changed, the shortest included.",
            "视觉模型在短暂微调后损失很小（ViT, arXiv 2010.11929）。不微调时，所有距离都变了，最短的也不例外。"
        ),
        advice: words!(
            "Fine-tune with the stretch. If the model was trained without it, on {trained} tokens, keep the unstretched table for inputs that fit it.",
            "带着这种拉伸进行微调。如果模型是在 {trained} 个词元上、未拉伸时训练的，对放得下的输入请继续使用未拉伸的表。"
        ),
    }
}

/// Every id has a row, but training stopped short of the last ones.
fn untrained_rows(lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let last = length - 1;
    let new = grouped(lengths.ids_from(trained));
    Finding {
        method: String::new(),
        class: Class::CanButBreaks,
        answer: words!(
            "It runs, and says nothing: the rows {trained} to {last} exist, but training never moved them from their initial values.",
            "能运行，而且毫无提示：第 {trained} 到 {last} 行存在，但训练从未更新过它们，仍是初始值。"
        ),
        out_of_distribution: vec![Unseen::new(What::Ids, lengths.ids_from(trained), length, untrained())],
        expect: words!(
            "Worse than repeating the last trained row, and silent: {new} tokens are marked with noise.",
            "比重复最后一个训练过的行还差，而且没有任何报错：{new} 个词元被加上了噪声。"
        ),
        advice: words!(
            "Cut the table to the {trained} trained rows, so that a longer input is an error; or train at {length}.",
            "把表截到训练过的 {trained} 行，使更长的输入报错；或在长度 {length} 上训练。"
        ),
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::{Gather, TableRows};
    use crate::positions::Positions;

    #[test]
    fn counts_are_those_of_the_rows_that_are_read() {
        for rows in 1..9usize {
            for length in rows + 1..14 {
                let lengths = Lengths {
                    trained: rows as u64,
                    length: length as u64,
                };
                let read = |overflow| {
                    let table = TableRows {
                        rows,
                        offset: 0,
                        padding_row: None,
                        overflow,
                    };
                    let at = Positions::absent(length);
                    let gather = Gather::new(&table, &at, &[&at]).unwrap();
                    (0..length).map(|t| gather.get(0, t).unwrap()).collect::<Vec<_>>()
                };
                let unseen = |overflow| table(Place::Embeddings, rows as u64, overflow, lengths).out_of_distribution[0].unseen as usize;

                let clamped = read(Overflow::Clamp).iter().filter(|mix| mix.low == rows - 1).count();
                assert_eq!(unseen(Overflow::Clamp), clamped - 1);
                let wrapped = read(Overflow::Wrap);
                let again = (0..length).filter(|&t| wrapped[..t].contains(&wrapped[t])).count();
                assert_eq!(unseen(Overflow::Wrap), again);
                // Rounding may leave a weight of 1e-16 where the place is a row.
                let between = read(Overflow::Interpolate)
                    .iter()
                    .filter(|mix| mix.weight > 1e-9 && mix.weight < 1.0 - 1e-9)
                    .count();
                assert_eq!(unseen(Overflow::Interpolate), if rows == 1 { 0 } else { between });
            }
        }
    }

    #[test]
    fn rows_that_were_never_trained_are_found() {
        let lengths = Lengths {
            trained: 2048,
            length: 3000,
        };
        let found = table(Place::Embeddings, 4096, Overflow::Error, lengths);
        assert_eq!(found.class, Class::CanButBreaks);
        assert_eq!(found.out_of_distribution[0].unseen, 952);
        let found = table(Place::Embeddings, 2500, Overflow::Error, lengths);
        assert_eq!((found.class, found.out_of_distribution[0].unseen), (Class::Cannot, 500));
        assert!(found.answer.en.contains("2048 to 2499"));
        let unseen: Vec<u64> = found.out_of_distribution.iter().map(|u| u.unseen).collect();
        assert_eq!(unseen, [500, 452, 2_403_324]);
    }

    #[test]
    fn a_table_at_the_inputs_says_that_values_are_untouched() {
        let lengths = Lengths {
            trained: 2048,
            length: 3000,
        };
        let found = table(Place::Attention, 2048, Overflow::Error, lengths);
        assert_eq!(found.class, Class::Cannot);
        assert!(found.expect.en.contains("values carry no position"));
    }
}
