use std::collections::BTreeSet;

use super::*;
use crate::dataset::testing::labelled;

fn pool(name: &str, weight: f64, count: u32) -> Pool {
    Pool {
        name: name.into(),
        weight,
        blocks: vec![(0..count).collect()],
        window: usize::MAX,
    }
}

fn mixture(weights: &[f64], seed: u64) -> Mixture {
    let pools = weights.iter().map(|w| pool("p", *w, 10)).collect();
    Mixture::new(pools, seed).unwrap()
}

/// (source, epoch, example) of the draws in `range`.
fn drawn(mixture: &mut Mixture, range: std::ops::Range<u64>) -> Vec<(usize, u64, usize)> {
    range
        .map(|index| mixture.draw(index))
        .map(|draw| (draw.source, draw.epoch, draw.example()))
        .collect()
}

#[test]
fn shares_lie_within_their_binomial_band() {
    const DRAWS: u64 = 100_000;
    for (weights, seed) in [
        (vec![0.98, 0.02], 1),
        (vec![1.0, 2.0, 7.0], 2),
        (vec![3.0], 3),
    ] {
        let mut mixture = mixture(&weights, seed);
        let mut drawn = vec![0; weights.len()];
        (0..DRAWS).for_each(|index| drawn[mixture.draw(index).source] += 1);
        assert_eq!(mixture.counts(DRAWS), drawn);
        let sum: f64 = weights.iter().sum();
        for (weight, count) in weights.iter().zip(&drawn) {
            let p = weight / sum;
            let n = DRAWS as f64;
            // 2.576 standard deviations hold 99 %.
            let band = 2.576 * (n * p * (1.0 - p)).sqrt();
            assert!(
                (*count as f64 - n * p).abs() <= band,
                "{weights:?}: {count}"
            );
        }
    }
}

#[test]
fn a_draw_is_the_same_whatever_was_drawn_before() {
    let whole = drawn(&mut mixture(&[0.7, 0.3], 5), 0..2000);
    for start in [0, 1, 17, 999, 1999] {
        let rest = drawn(&mut mixture(&[0.7, 0.3], 5), start..2000);
        assert_eq!(rest, whole[start as usize..]);
    }
    let mut back = mixture(&[0.7, 0.3], 5);
    assert_eq!(back.counts(1500).iter().sum::<u64>(), 1500);
    assert_eq!(drawn(&mut back, 3..40), whole[3..40]);
    assert_ne!(drawn(&mut mixture(&[0.7, 0.3], 6), 0..2000), whole);
}

#[test]
fn each_epoch_shows_every_example_once_in_another_order() {
    let mut mixture = mixture(&[1.0], 1);
    let epochs: Vec<Vec<usize>> = (0..50)
        .map(|epoch| {
            let draws = drawn(&mut mixture, epoch * 10..epoch * 10 + 10);
            assert!(draws.iter().all(|(_, e, _)| *e == epoch));
            draws.into_iter().map(|(_, _, example)| example).collect()
        })
        .collect();
    for order in &epochs {
        let all: BTreeSet<usize> = order.iter().copied().collect();
        assert_eq!(all, (0..10).collect());
    }
    let orders: BTreeSet<&Vec<usize>> = epochs.iter().collect();
    assert_eq!(orders.len(), 50);
}

#[test]
fn ranks_deal_out_the_order_of_one() {
    let one = drawn(&mut mixture(&[0.5, 0.5], 9), 0..240);
    for ranks in [1, 2, 3, 4] {
        let mut dealt = vec![None; 240];
        for rank in 0..ranks {
            let mut mixture = mixture(&[0.5, 0.5], 9);
            for index in (0..240).skip(rank).step_by(ranks) {
                let draw = mixture.draw(index);
                dealt[index as usize] = Some((draw.source, draw.epoch, draw.example()));
            }
        }
        assert!(dealt.into_iter().flatten().eq(one.iter().copied()));
    }
}

/// The order of shards is drawn, and samples stray no further than the window.
#[test]
fn shards_are_read_one_after_the_other() {
    let blocks: Vec<Vec<u32>> = (0..10)
        .map(|s| (s * 100..(s + 1) * 100).collect())
        .collect();
    let pool = Pool {
        name: "s".into(),
        weight: 1.0,
        blocks,
        window: 50,
    };
    let mut mixture = Mixture::new(vec![pool], 4).unwrap();
    let mut orders = BTreeSet::new();
    for epoch in 0..5 {
        let draws = drawn(&mut mixture, epoch * 1000..(epoch + 1) * 1000);
        let examples: Vec<usize> = draws.into_iter().map(|(_, _, e)| e).collect();
        assert_eq!(examples.iter().collect::<BTreeSet<_>>().len(), 1000);
        let mut shards = Vec::new();
        for window in examples.chunks(50) {
            let low = window.iter().min().unwrap();
            let span: BTreeSet<usize> = window.iter().copied().collect();
            assert_eq!(span, (*low..low + 50).collect());
            assert!(!window.is_sorted());
            shards.push(low / 100);
        }
        shards.dedup();
        assert_eq!(shards.len(), 10);
        orders.insert(shards);
    }
    assert_eq!(orders.len(), 5);
}

#[test]
fn candidates_go_once_through_the_epoch() {
    let draw = mixture(&[1.0], 1).draw(7);
    let candidates: Vec<usize> = draw.candidates().collect();
    assert_eq!(candidates[0], draw.example());
    let all: BTreeSet<usize> = candidates.iter().copied().collect();
    assert_eq!((all.len(), candidates.len()), (10, 10));
}

#[test]
fn a_pool_holds_the_training_examples_that_are_left() {
    let (_folder, source) = labelled(6, "");
    let mut sides = vec![Side::Train; 6];
    sides[1] = Side::Val;
    sides[2] = Side::Test;
    let pool = Pool::training(&source, &sides, &[4].into());
    assert_eq!(pool.blocks, [[0, 3, 5]]);
}

#[test]
fn weights_without_examples_are_refused() {
    let told = |pools| Mixture::new(pools, 1).unwrap_err().to_string();
    assert!(told(vec![]).contains("weights"));
    assert!(told(vec![pool("a", 0.0, 3)]).contains("weights"));
    assert!(told(vec![pool("a", f64::NAN, 3)]).contains("weights"));
    assert!(told(vec![pool("a", 1.0, 3), pool("b", 1.0, 0)]).contains("source b"));
    let zero = vec![pool("a", 1.0, 3), pool("b", 0.0, 0)];
    let mut mixture = Mixture::new(zero, 1).unwrap();
    assert!((0..100).all(|i| mixture.draw(i).source == 0));
}
