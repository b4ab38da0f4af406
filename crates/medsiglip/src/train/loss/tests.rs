use burn::tensor::{Device, Distribution};

use super::*;

const N: usize = 11;
const D: usize = 7;

fn numbers<const R: usize>(tensor: Tensor<R>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn random(seed: u64) -> Tensor<2> {
    let device = Device::flex();
    device.seed(seed);
    Tensor::random([N, D], Distribution::Normal(0.3, 1.0), &device)
}

/// Of every picture the text of its own key is true, and where two are asked for, that of the next.
fn pictures(seed: u64, keys: &[i32], each: usize) -> Pictures {
    let keys: Vec<i32> = keys
        .iter()
        .flat_map(|key| (0..each as i32).map(move |i| key + i))
        .collect();
    let keys = Tensor::<1, Int>::from_data(&keys[..], &Device::flex()).reshape([N, each]);
    Pictures {
        pooled: random(seed),
        keys,
    }
}

fn texts(seed: u64, keys: &[i32]) -> Texts {
    Texts {
        pooled: random(seed),
        keys: Tensor::from_data(keys, &Device::flex()),
    }
}

fn logit() -> Logit {
    let device = Device::flex();
    Logit {
        scale: Tensor::from_data([1.3], &device),
        bias: Tensor::from_data([-1.7], &device),
    }
}

fn keys(same: bool) -> Vec<i32> {
    (0..N as i32)
        .map(|i| if same { i % 4 } else { i })
        .collect()
}

fn part(side: &Pictures, rows: std::ops::Range<usize>) -> Pictures {
    Pictures {
        pooled: side.pooled.clone().slice([rows.clone()]),
        keys: side.keys.clone().slice([rows]),
    }
}

fn close<const R: usize>(a: Tensor<R>, b: Tensor<R>, what: &str) {
    let (a, b) = (numbers(a), numbers(b));
    let largest = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= 2e-6 * largest, "{what}: {a} {b}");
    }
}

fn same(a: &LossGradients, b: &LossGradients) {
    close(a.loss.clone(), b.loss.clone(), "loss");
    close(a.images.clone(), b.images.clone(), "images");
    close(a.texts.clone(), b.texts.clone(), "texts");
    close(a.scale.clone(), b.scale.clone(), "scale");
    close(a.bias.clone(), b.bias.clone(), "bias");
}

/// The paper's pseudo-code on tracked tensors, differentiated automatically.
fn algorithm_1(images: &Pictures, texts: &Texts, logit: &Logit) -> LossGradients {
    let track = |x: &Tensor<2>| Tensor::from_inner(x.clone()).require_grad();
    let track1 = |x: &Tensor<1>| Tensor::from_inner(x.clone()).require_grad();
    let (img_emb, txt_emb) = (track(&images.pooled), track(&texts.pooled));
    let (t_prime, b) = (track1(&logit.scale), track1(&logit.bias));
    let norm = |x: Tensor<2>| x.clone() / x.square().sum_dim(1).sqrt();
    let (zimg, ztxt) = (norm(img_emb.clone()), norm(txt_emb.clone()));
    let logits =
        zimg.matmul(ztxt.transpose()) * t_prime.clone().exp().unsqueeze() + b.clone().unsqueeze();
    let x: Vec<i32> = images.keys.clone().into_data().iter::<i32>().collect();
    let y: Vec<i32> = texts.keys.clone().into_data().iter::<i32>().collect();
    let labels: Vec<f32> = x
        .chunks(x.len() / N)
        .flat_map(|a| {
            y.iter()
                .map(move |b| if a.contains(b) { 1.0 } else { -1.0 })
        })
        .collect();
    let labels = Tensor::<1>::from_data(&labels[..], &img_emb.device()).reshape([N, N]);
    let loss = -log_sigmoid(labels * logits).sum() / N as f64;
    let gradients = loss.backward();
    LossGradients {
        images: img_emb.grad(&gradients).unwrap(),
        texts: txt_emb.grad(&gradients).unwrap(),
        scale: t_prime.grad(&gradients).unwrap(),
        bias: b.grad(&gradients).unwrap(),
        loss: loss.inner(),
    }
}

#[test]
fn equals_the_papers_algorithm_differentiated() {
    for (shared, each) in [(false, 1), (true, 1), (true, 2)] {
        let keys = keys(shared);
        let (images, texts) = (pictures(1, &keys, each), texts(2, &keys));
        let got = sigmoid_loss(&images, &texts, &logit(), N, N);
        same(&got, &algorithm_1(&images, &texts, &logit()));
    }
}

#[test]
fn chunked_equals_whole() {
    let keys = keys(true);
    let (images, texts) = (pictures(3, &keys, 2), texts(4, &keys));
    let whole = sigmoid_loss(&images, &texts, &logit(), N, N);
    for block in [1, 2, 3, 5, 10, 100] {
        same(&sigmoid_loss(&images, &texts, &logit(), N, block), &whole);
    }
}

#[test]
fn ranks_add_up_to_one_device() {
    let keys = keys(false);
    let (images, texts) = (pictures(5, &keys, 2), texts(6, &keys));
    let whole = sigmoid_loss(&images, &texts, &logit(), N, N);
    for ranks in [2, 3, 4] {
        let each = N.div_ceil(ranks);
        let parts: Vec<_> = (0..ranks)
            .map(|rank| {
                let rows = rank * each..N.min((rank + 1) * each);
                sigmoid_loss(&part(&images, rows), &texts, &logit(), N, 4)
            })
            .collect();
        let sum = |of: fn(&LossGradients) -> Tensor<1>| {
            parts.iter().map(of).reduce(|a, b| a + b).unwrap()
        };
        let all = LossGradients {
            loss: sum(|p| p.loss.clone()),
            images: Tensor::cat(parts.iter().map(|p| p.images.clone()).collect(), 0),
            texts: parts
                .iter()
                .map(|p| p.texts.clone())
                .reduce(|a, b| a + b)
                .unwrap(),
            scale: sum(|p| p.scale.clone()),
            bias: sum(|p| p.bias.clone()),
        };
        same(&all, &whole);
    }
}

#[test]
fn extreme_logits_stay_finite() {
    let keys = keys(false);
    let mut logit = logit();
    logit.scale = Tensor::from_data([6.0], &Device::flex());
    let loss = sigmoid_loss(&pictures(7, &keys, 1), &texts(8, &keys), &logit, N, N);
    assert!(numbers(loss.images).iter().all(|x| x.is_finite()));
    assert!(numbers(loss.loss)[0] > 1.0);
}
