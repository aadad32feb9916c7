mod models;
mod weights;
use candle_core::{DType, Device, Tensor};
use models::{Code, Model, VOCAB, load};
use posenc::Rng;
use weights::Random;
pub const FAR: usize = 4096;
const NEAR: usize = 63;
const PROBES: usize = 16;

fn logits(model: Model, code: Code, dtype: DType, base: f64, seed: u64, spread: f64, far: usize) -> candle_core::Result<Vec<f64>> {
    let mut m = load(model, code, dtype, base, Random { seed, spread, gemma: model == Model::Gemma3 })?;
    let mut rng = Rng::named(seed, "tokens");
    let t: Vec<u32> = (0..far).map(|_| (rng.bits() % VOCAB as u64) as u32).collect();
    m.forward(&Tensor::from_vec(t, (1, far), &Device::Cpu)?, 0)?;
    let mut out = vec![];
    for p in 0..PROBES {
        out.extend(m.fork().forward(&Tensor::new(&[[(p * 31) as u32]], &Device::Cpu)?, far)?);
    }
    Ok(out)
}
fn worst(a: &[f64], b: &[f64]) -> (f64, f64) {
    let mut m = 0f64; let mut s = 0f64;
    for (x, y) in a.iter().zip(b) { m = m.max((x - y).abs()); s += (x - y).powi(2); }
    (m, (s / a.len() as f64).sqrt())
}
fn main() -> candle_core::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let spread: f64 = args[1].parse().unwrap();
    let far: usize = args[2].parse().unwrap();
    for model in Model::ALL {
        if args.len() > 3 && args[3] != model.name() { continue; }
        for seed in 0..2 {
        let t = std::time::Instant::now();
        let exact = logits(model, Code::Swapped, DType::F64, 1.0, seed, spread, far)?;
        eprintln!("f64 {:?}", t.elapsed());
        let zero = vec![0.0; exact.len()];
        let moved = logits(model, Code::Swapped, DType::F64, 1.0 + model.head_dim() as f64 / 2.0 * 2f64.powi(-24), seed, spread, far)?;
        println!("{} spread {spread} far {far}: logits {:.2?} sens {:.5?}", model.name(), worst(&exact, &zero), worst(&exact, &moved));
        for dtype in [DType::F32, DType::BF16] {
            let t = std::time::Instant::now();
            let o = logits(model, Code::Original, dtype, 1.0, seed, spread, far)?;
            let to = t.elapsed();
            let s = logits(model, Code::Swapped, dtype, 1.0, seed, spread, far)?;
            println!("  {dtype:?} orig {:.5?} swapped {:.5?} apart {:.5?} ratio {:.3} {to:?} {:?}", worst(&o, &exact), worst(&s, &exact), worst(&o, &s), worst(&s, &exact).0 / worst(&o, &exact).0, t.elapsed() - to);
        }
        }
    }
    let _ = NEAR;
    Ok(())
}
