//! The formulas of each method in plain text, readable in a terminal: document 003's question, answered for all of them.

use crate::catalogue::Entry;
use crate::encoding::Encoding;
use crate::words::{Language, Words, said};

/// The formulas of every method of an encoding.
///
/// ```
/// use posenc::{Encoding, Language, Pairing, Rotary, explain::formula};
/// let text = formula(&Encoding::from(Rotary::new(Pairing::Halves)), Language::Chinese);
/// assert!(text.contains("x′ = x cos θ − y sin θ") && text.contains("复数"));
/// ```
pub fn formula(encoding: &Encoding, language: Language) -> String {
    if encoding.methods.is_empty() {
        return NONE.get(language).to_string();
    }
    let each: Vec<&str> = encoding.methods.iter().map(|m| Entry::of(m).formula.get(language)).collect();
    each.join("\n")
}

pub(crate) const NONE: Words<&str> = said(
    "\
no encoding (NoPE): query i, key j, head width d

score     s(i, j) = q(i) · k(j) / √d           j ≤ i

Positions enter nowhere. The causal mask alone tells token i that it has i + 1 keys.
",
    "\
无位置编码（NoPE）：查询 i，键 j，头宽度 d

分数      s(i, j) = q(i) · k(j) / √d           j ≤ i

位置不出现在任何地方。只有因果掩码让词元 i 得知自己有 i + 1 个键。
",
);

pub(crate) const LEARNED: Words<&str> = said(
    "\
learned absolute positions: token t at position p, model width D

table     E has max_len rows of D trained numbers
added     y(t) = x(t) + E[p + offset]          offset 0; 2 in OPT and BART
limit     0 ≤ p < max_len − offset
",
    "\
可学习的绝对位置：位置 p 处的词元 t，模型宽度 D

表        E 有 max_len 行，每行 D 个可训练的数
相加      y(t) = x(t) + E[p + offset]          offset 为 0；OPT 和 BART 为 2
范围      0 ≤ p < max_len − offset
",
);

pub(crate) const SINUSOIDAL: Words<&str> = said(
    "\
sinusoidal positions: position p, frequency i = 0 … D/2 − 1, model width D

angle     θ(p, i) = p / base^(2i/D)                        base 10000
vector    PE(p, 2i) = sin θ(p, i),   PE(p, 2i + 1) = cos θ(p, i)
added     y(t) = x(t) + PE(p)
distance  PE(p) · PE(p + k) = Σ_i cos(k / base^(2i/D))     k alone matters
turn      λ(i) = 2π · base^(2i/D) positions for one turn
",
    "\
正弦位置编码：位置 p，频率 i = 0 … D/2 − 1，模型宽度 D

角度      θ(p, i) = p / base^(2i/D)                        base 为 10000
向量      PE(p, 2i) = sin θ(p, i)，  PE(p, 2i + 1) = cos θ(p, i)
相加      y(t) = x(t) + PE(p)
距离      PE(p) · PE(p + k) = Σ_i cos(k / base^(2i/D))     只与 k 有关
一圈      λ(i) = 2π · base^(2i/D) 个位置转一圈
",
);

pub(crate) const INPUT_TABLE: Words<&str> = said(
    "\
a table at the inputs of queries and keys: token at position p, model width D

table     E has max_len rows of D trained numbers, one table per layer
inputs    q′(t) = q(t) + E[p],   k′(t) = k(t) + E[p],   v′(t) = v(t)
then      q′, k′, v′ are projected and attended to as ever
limit     0 ≤ p < max_len
",
    "\
加在查询和键输入上的表：位置 p 处的词元，模型宽度 D

表        E 有 max_len 行，每行 D 个可训练的数，每层一张表
输入      q′(t) = q(t) + E[p]，  k′(t) = k(t) + E[p]，  v′(t) = v(t)
然后      q′、k′、v′ 照常投影并计算注意力
范围      0 ≤ p < max_len
",
);

pub(crate) const ROTARY: Words<&str> = said(
    "\
rotary positions (RoPE): position p, pair i = 0 … d/2 − 1 of a head of width d

angle     θ(p, i) = p / base^(2i/d)                base 10000

pair      x′ = x cos θ − y sin θ
          y′ = x sin θ + y cos θ

matrix    ⎡ x′ ⎤   ⎡ cos θ  −sin θ ⎤ ⎡ x ⎤
          ⎣ y′ ⎦ = ⎣ sin θ   cos θ ⎦ ⎣ y ⎦

complex   z = x + j·y,   j = √−1
          z′ = z · e^(jθ)                          x′ and y′ are its real and imaginary part

which     interleaved  (x, y) = (x[2i], x[2i + 1])
          halves       (x, y) = (x[i],  x[i + d/2])

score     q′(m) · k′(n) = Σ_i Re( q_i · conj(k_i) · e^(j·(m − n)·θ(1, i)) )
          depends on the distance m − n alone; norms do not change

xpos      q′(m) · ζ(i)^(m/512),  k′(n) / ζ(i)^(n/512),  ζ(i) = (2i + 0.4·d) / (1.4·d)
          fades besides: each term of the score times ζ(i)^((m − n)/512)

turn      λ(i) = 2π · base^(2i/d) positions for one turn: from 6.3 (pair 0) to nearly 2π · base
",
    "\
旋转位置编码（RoPE）：位置 p，宽度为 d 的头中的第 i 对坐标，i = 0 … d/2 − 1

角度      θ(p, i) = p / base^(2i/d)                base 为 10000

坐标对    x′ = x cos θ − y sin θ
          y′ = x sin θ + y cos θ

矩阵      ⎡ x′ ⎤   ⎡ cos θ  −sin θ ⎤ ⎡ x ⎤
          ⎣ y′ ⎦ = ⎣ sin θ   cos θ ⎦ ⎣ y ⎦

复数      z = x + j·y，  j = √−1
          z′ = z · e^(jθ)                          x′、y′ 是它的实部和虚部

配对      相邻 interleaved  (x, y) = (x[2i], x[2i + 1])
          对半 halves       (x, y) = (x[i],  x[i + d/2])

分数      q′(m) · k′(n) = Σ_i Re( q_i · conj(k_i) · e^(j·(m − n)·θ(1, i)) )
          只取决于距离 m − n；向量长度不变

xpos      q′(m) · ζ(i)^(m/512)，  k′(n) / ζ(i)^(n/512)，  ζ(i) = (2i + 0.4·d) / (1.4·d)
          另外随距离衰减：分数的每一项乘以 ζ(i)^((m − n)/512)

一圈      λ(i) = 2π · base^(2i/d) 个位置转一圈：从 6.3 个（第 0 对）到接近 2π · base 个
",
);

pub(crate) const SHAW: Words<&str> = said(
    "\
Shaw's relative keys and values: query i, key j, head width d, clip k

row       r(i, j) = clip(j − i, −k, k) + k
score     s(i, j) = q(i) · ( k(j) + aK[r(i, j)] ) / √d
output    o(i) = Σ_j p(i, j) · ( v(j) + aV[r(i, j)] )      p = softmax of s
tables    aK and aV have 2k + 1 rows of d trained numbers, shared by the heads
",
    "\
Shaw 的相对键与相对值：查询 i，键 j，头宽度 d，截断 k

行号      r(i, j) = clip(j − i, −k, k) + k
分数      s(i, j) = q(i) · ( k(j) + aK[r(i, j)] ) / √d
输出      o(i) = Σ_j p(i, j) · ( v(j) + aV[r(i, j)] )      p 是 s 的 softmax
表        aK 和 aV 各有 2k + 1 行，每行 d 个可训练的数，各头共用
",
);

pub(crate) const MUSIC_TRANSFORMER: Words<&str> = said(
    "\
Music Transformer: query i, key j ≤ i, head h, head width d, L distances

score     s(i, j) = q(i) · ( k(j) + E[h, L − 1 − (i − j)] ) / √d
table     E has L rows of d trained numbers for each head, the query's own position last
skew      all q · E, padded by a column, reshaped, a row dropped: (i, j) is row L − 1 − (i − j)
limit     i − j < L
",
    "\
Music Transformer：查询 i，键 j ≤ i，头 h，头宽度 d，L 个距离

分数      s(i, j) = q(i) · ( k(j) + E[h, L − 1 − (i − j)] ) / √d
表        E 为每个头准备 L 行，每行 d 个可训练的数，查询自己的位置是最后一行
错位      先算 q(i) 与所有行的积，补一列，变形，去一行：第 (i, j) 项即第 L − 1 − (i − j) 行
范围      i − j < L
",
);

pub(crate) const TRANSFORMER_XL: Words<&str> = said(
    "\
Transformer-XL: query i, key j, head width d, model width D

sinusoid  R(n) = ( sin n·ω(0), …, sin n·ω(D/2 − 1), cos n·ω(0), … ),   ω(f) = 10000^(−2f/D)
table     r(n) = W R(n)                                    W is the layer's, per head d × D
score     s(i, j) = [ (q(i) + u) · k(j) + (q(i) + v) · r(i − j) ] / √d
vectors   u and v, d trained numbers each for every head

Conformers interleave sines and cosines and have rows for keys after the query.
",
    "\
Transformer-XL：查询 i，键 j，头宽度 d，模型宽度 D

正弦      R(n) = ( sin n·ω(0), …, sin n·ω(D/2 − 1), cos n·ω(0), … )，  ω(f) = 10000^(−2f/D)
表        r(n) = W R(n)                                    W 属于该层，每个头 d × D
分数      s(i, j) = [ (q(i) + u) · k(j) + (q(i) + v) · r(i − j) ] / √d
向量      u 和 v，每个头各 d 个可训练的数

Conformer 把正弦与余弦交错排列，并且为查询之后的键也准备了行。
",
);

pub(crate) const XLNET: Words<&str> = said(
    "\
XLNet: query i, key j before or after it, head width d, model width D

table     r(n) = W R(n)                                    R as in Transformer-XL
segment   g(i, j) = g[0] in the same segment, else g[1]
score     s(i, j) = [ (q(i) + u) · k(j) + (q(i) + v) · r(i − j) + (q(i) + w) · g(i, j) ] / √d
vectors   u, v, w, g[0] and g[1], d trained numbers each for every head
",
    "\
XLNet：查询 i，它之前或之后的键 j，头宽度 d，模型宽度 D

表        r(n) = W R(n)                                    R 与 Transformer-XL 相同
分段      g(i, j) = g[0]（同一分段），否则 g[1]
分数      s(i, j) = [ (q(i) + u) · k(j) + (q(i) + v) · r(i − j) + (q(i) + w) · g(i, j) ] / √d
向量      u、v、w、g[0] 和 g[1]，每个头各 d 个可训练的数
",
);

pub(crate) const DEBERTA: Words<&str> = said(
    "\
DeBERTa: query i, key j, head width d, k rows each way, b buckets to distance M, m = b/2

bucket    β(n) = n                                                      |n| ≤ m, or without buckets
          sign(n) · ( ⌈ (m − 1) · ln(|n|/m) / ln((M − 1)/m) ⌉ + m )     else
row       δ(i, j) = clip(β(i − j) + k, 0, 2k − 1)                       k = b, or M without buckets
tables    K = E projected to keys, Q = E projected to queries           E has 2k rows for all layers
score     s(i, j) = [ q(i) · k(j) + q(i) · K[δ(i, j)] + k(j) · Q[δ(i, j)] ] / √(3d)

With one of the two terms it is √(2d). The paper reads Q at δ(j, i), the code at δ(i, j).
",
    "\
DeBERTa：查询 i，键 j，头宽度 d，每个方向 k 行，b 个桶，最大距离 M，m = b/2

桶号      β(n) = n                                                      |n| ≤ m，或不分桶
          sign(n) · ( ⌈ (m − 1) · ln(|n|/m) / ln((M − 1)/m) ⌉ + m )     其他
行号      δ(i, j) = clip(β(i − j) + k, 0, 2k − 1)                       k = b，不分桶时为 M
表        K 是 E 投影成的键，Q 是 E 投影成的查询                        E 有 2k 行，所有层共用
分数      s(i, j) = [ q(i) · k(j) + q(i) · K[δ(i, j)] + k(j) · Q[δ(i, j)] ] / √(3d)

只用两项之一时为 √(2d)。论文用 δ(j, i) 读 Q，代码用 δ(i, j)。
",
);

pub(crate) const ALIBI: Words<&str> = said(
    "\
ALiBi: query i, key j, head h = 1 … H, head width d

score     s(i, j) = q(i) · k(j) / √d − m(h) · (i − j)      |i − j| in an encoder
slope     m(h) = 2^(−8h/H)                                 H a power of two; else those of the next
                                                           lower power n, then every second of 2n
",
    "\
ALiBi：查询 i，键 j，头 h = 1 … H，头宽度 d

分数      s(i, j) = q(i) · k(j) / √d − m(h) · (i − j)      编码器中用 |i − j|
斜率      m(h) = 2^(−8h/H)                                 H 为 2 的幂；否则取小于 H 的最大的
                                                           2 的幂 n，用它的斜率，再隔一个取 2n 的
",
);

pub(crate) const CLIPPED: Words<&str> = said(
    "\
clipped relative bias: query i, key j, head h, head width d, clip k

score     s(i, j) = q(i) · k(j) / √d + w[clip(j − i, −k, k) + k, h]
table     w has 2k + 1 rows of H trained numbers, one table per layer

The formula of document 003 reads i − j, its code j − i; the direction is an argument here.
",
    "\
截断的相对偏置：查询 i，键 j，头 h，头宽度 d，截断 k

分数      s(i, j) = q(i) · k(j) / √d + w[clip(j − i, −k, k) + k, h]
表        w 有 2k + 1 行，每行 H 个可训练的数，每层一张表

文档 003 的公式写的是 i − j，代码算的是 j − i；这里方向是一个参数。
",
);

pub(crate) const SHARED: Words<&str> = said(
    "\
shared relative bias: query i, key j, head width d, clip k

score     s(i, j) = q(i) · k(j) / √d − φ[clip(i − j, −k, k) + k]
table     φ has 2k + 1 trained numbers for all heads, one table per layer
",
    "\
各头共用的相对偏置：查询 i，键 j，头宽度 d，截断 k

分数      s(i, j) = q(i) · k(j) / √d − φ[clip(i − j, −k, k) + k]
表        φ 有 2k + 1 个可训练的数，所有头共用，每层一张表
",
);

pub(crate) const T5: Words<&str> = said(
    "\
T5's bucketed bias: query i, key j, head h, B buckets, largest distance M

distance  n = max(i − j, 0)                                b = B          decoder
          n = |i − j|, buckets of their own for j > i      b = B/2        encoder
bucket    n                                                                n < e, e = ⌊b/2⌋
          min(b − 1, e + ⌊ (b − e) · ln(n/e) / ln(M/e) ⌋)                  else
score     s(i, j) = q(i) · k(j) + w[bucket, h]             T5 does not divide by √d
table     w has B rows of H trained numbers, one table for all layers
",
    "\
T5 的分桶偏置：查询 i，键 j，头 h，B 个桶，最大距离 M

距离      n = max(i − j, 0)                                b = B          解码器
          n = |i − j|，j > i 另有一半的桶                  b = B/2        编码器
桶号      n                                                                n < e，e = ⌊b/2⌋
          min(b − 1, e + ⌊ (b − e) · ln(n/e) / ln(M/e) ⌋)                  其他
分数      s(i, j) = q(i) · k(j) + w[桶号, h]               T5 不除以 √d
表        w 有 B 行，每行 H 个可训练的数，所有层共用
",
);

pub(crate) const KERPLE: Words<&str> = said(
    "\
KERPLE: query i, key j, head h, head width d

log       s(i, j) = q(i) · k(j) / √d − p[h] · ln(1 + a[h] · |i − j|)      p, a ≥ 0.01
power     s(i, j) = q(i) · k(j) / √d − a[h] · |i − j|^p[h]                a ≥ 0.01, 0.01 ≤ p ≤ 2
learned   p and a, H numbers each for all layers
",
    "\
KERPLE：查询 i，键 j，头 h，头宽度 d

对数      s(i, j) = q(i) · k(j) / √d − p[h] · ln(1 + a[h] · |i − j|)      p、a ≥ 0.01
幂        s(i, j) = q(i) · k(j) / √d − a[h] · |i − j|^p[h]                a ≥ 0.01，0.01 ≤ p ≤ 2
可训练    p 和 a，各 H 个数，所有层共用
",
);

pub(crate) const SANDWICH: Words<&str> = said(
    "\
Sandwich: query i, key j, head h = 1 … H, head width d, vectors of width D = 128

cosines   c(n) = Σ_k cos(n / base^(2k/D))      k = 0 … D/2 − 1, base 10000
score     s(i, j) = q(i) · k(j) / √d + ( c(i − j) − D/2 ) · H / (8h)

c(i − j) is the product of the sinusoidal vectors of positions i and j.
",
    "\
Sandwich：查询 i，键 j，头 h = 1 … H，头宽度 d，向量宽度 D = 128

余弦      c(n) = Σ_k cos(n / base^(2k/D))      k = 0 … D/2 − 1，base 为 10000
分数      s(i, j) = q(i) · k(j) / √d + ( c(i − j) − D/2 ) · H / (8h)

c(i − j) 是位置 i 与 j 的正弦向量的内积。
",
);

pub(crate) const FIRE: Words<&str> = said(
    "\
FIRE: query i, key j, head h, head width d

log       ψ(n) = ln(|c| · n + 1)
input     u(i, j) = ψ(|i − j|) / ψ(max(i, |w · L|))        L 512; c from 0.1, w from 1
network   f[h](u) = W2[h] · relu(W1 · u + b1) + b2[h]      32 hidden units
score     s(i, j) = q(i) · k(j) / √d + f[h](u(i, j))
learned   c, w, W1, b1, W2, b2 in each layer
",
    "\
FIRE：查询 i，键 j，头 h，头宽度 d

对数      ψ(n) = ln(|c| · n + 1)
输入      u(i, j) = ψ(|i − j|) / ψ(max(i, |w · L|))        L 为 512；c 从 0.1、w 从 1 开始
网络      f[h](u) = W2[h] · relu(W1 · u + b1) + b2[h]      32 个隐藏单元
分数      s(i, j) = q(i) · k(j) / √d + f[h](u(i, j))
可训练    每层的 c、w、W1、b1、W2、b2
",
);

pub(crate) const SWIN: Words<&str> = said(
    "\
Swin's bias: query i and key j in a window of M × N cells, head h, head width d

offset    y = row(i) − row(j),   x = column(i) − column(j)
score     s(i, j) = q(i) · k(j) / √d + w[(y + M − 1) · (2N − 1) + x + N − 1, h]
table     w has (2M − 1) · (2N − 1) rows of H trained numbers, one table per layer
limit     |y| < M,  |x| < N
",
    "\
Swin 的偏置：M × N 窗口中的查询 i 和键 j，头 h，头宽度 d

偏移      y = 行(i) − 行(j)，  x = 列(i) − 列(j)
分数      s(i, j) = q(i) · k(j) / √d + w[(y + M − 1) · (2N − 1) + x + N − 1, h]
表        w 有 (2M − 1) · (2N − 1) 行，每行 H 个可训练的数，每层一张表
范围      |y| < M，|x| < N
",
);

pub(crate) const LOG_CPB: Words<&str> = said(
    "\
log-spaced continuous bias (Swin v2): query i and key j, windows of M × N cells, head h

offset    y = row(i) − row(j),   x = column(i) − column(j)
log       ℓ(n, M) = sign(n) · log2(1 + 8 · |n| / (M − 1)) / 3
network   f[h] = W2[h] · relu(W1 · (ℓ(y, M), ℓ(x, N)) + b1)      512 hidden units
score     s(i, j) = q(i) · k(j) / √d + 16 · sigmoid(f[h])
learned   W1, b1 and W2 in each layer; Swin v2's own scores are cosines times a trained number
",
    "\
对数连续偏置（Swin v2）：查询 i 和键 j，窗口 M × N，头 h

偏移      y = 行(i) − 行(j)，  x = 列(i) − 列(j)
对数      ℓ(n, M) = sign(n) · log2(1 + 8 · |n| / (M − 1)) / 3
网络      f[h] = W2[h] · relu(W1 · (ℓ(y, M), ℓ(x, N)) + b1)      512 个隐藏单元
分数      s(i, j) = q(i) · k(j) / √d + 16 · sigmoid(f[h])
可训练    每层的 W1、b1 和 W2；Swin v2 自己的分数是余弦相似度乘以一个可训练的数
",
);
