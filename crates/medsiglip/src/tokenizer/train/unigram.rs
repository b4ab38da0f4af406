//! A unigram model from words: Kudo, arXiv 1804.10959, section 3.2, step by step as SentencePiece does it
//! (`unigram_model_trainer.cc`).
//!
//! The trainer of the `tokenizers` crate looks for pieces among the different words alone, so that a word that stands a
//! thousand times in the captions and in no longer word is never a piece; captions took twice as many ids. It also gives
//! other files each time. Here words count as often as they stand, and the same words give the same pieces.

use std::collections::HashMap;

/// Characters of the longest piece, the space before a word included (SentencePiece's default).
pub(super) const MAX_PIECE_CHARS: usize = 16;
/// Pieces to start from (SentencePiece's default).
const SEEDS: usize = 1_000_000;
/// What stays in each round of pruning (SentencePiece's default).
const SHRINK: f64 = 0.75;
/// Rounds of expectation and maximization between two of pruning (SentencePiece's default).
const ROUNDS: usize = 2;
/// Pieces expected less often are dropped (`kExpectedFrequencyThreshold`).
const LEAST_EXPECTED: f64 = 0.5;

/// A word and how often it stands in the texts.
pub(super) type Word = (String, u32);

/// The pieces of `words` and their log probabilities: every character, and others up to `size` in all, likeliest first.
pub(super) fn train(words: &[Word], size: usize) -> Vec<(String, f64)> {
    let words: Vec<_> = words.iter().map(|(word, n)| Cut::new(word, *n)).collect();
    let mut model = seeds(&words);
    let enough = size + size / 10;
    loop {
        for _ in 0..ROUNDS {
            let expected = model.expected(&words);
            model.maximize(&expected);
        }
        let length = model.pieces.len();
        if length <= enough {
            break;
        }
        let target = enough.max((SHRINK * length as f64) as usize);
        model.prune(&words, target);
    }
    let (chars, mut others): (Vec<_>, Vec<_>) =
        model.pieces.into_iter().partition(|piece| piece.is_char);
    others.sort_by(Piece::likelier);
    others.truncate(size.saturating_sub(chars.len()));
    let mut pieces = [chars, others].concat();
    pieces.sort_by(Piece::likelier);
    let pieces = pieces.into_iter();
    pieces.map(|p| (p.text.to_owned(), p.score)).collect()
}

/// A word and where its characters start and end, in bytes.
struct Cut<'a> {
    text: &'a str,
    ends: Vec<usize>,
    count: f64,
}

impl<'a> Cut<'a> {
    fn new(text: &'a str, count: u32) -> Self {
        let starts = text.char_indices().map(|(at, _)| at);
        Self {
            text,
            ends: starts.chain([text.len()]).collect(),
            count: f64::from(count),
        }
    }

    /// Number of characters.
    fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// Every stretch that may be a piece: first character, character after the last, text.
    fn stretches(&self) -> impl Iterator<Item = (usize, usize, &'a str)> {
        (0..self.len()).flat_map(move |start| {
            let last = self.len().min(start + MAX_PIECE_CHARS);
            (start + 1..=last)
                .map(move |end| (start, end, &self.text[self.ends[start]..self.ends[end]]))
        })
    }
}

#[derive(Clone)]
struct Piece<'a> {
    text: &'a str,
    /// Log probability.
    score: f64,
    /// Whether it is a character, which is always kept.
    is_char: bool,
}

impl Piece<'_> {
    fn likelier(&self, other: &Self) -> std::cmp::Ordering {
        let by_score = other.score.total_cmp(&self.score);
        by_score.then_with(|| self.text.cmp(other.text))
    }
}

struct Model<'a> {
    pieces: Vec<Piece<'a>>,
    ids: HashMap<&'a str, usize>,
}

/// Where a piece lies in a word: first character, character after the last, id.
type Edge = (usize, usize, usize);

/// Every character, and the stretches that stand at least twice, the largest part of the text first.
fn seeds<'a>(words: &[Cut<'a>]) -> Model<'a> {
    let mut counts = HashMap::<&str, f64>::new();
    for word in words {
        for (_, _, text) in word.stretches() {
            *counts.entry(text).or_default() += word.count;
        }
    }
    let seed = |(text, count): (&'a str, f64)| {
        let chars = text.chars().count();
        Piece {
            text,
            score: count * chars as f64,
            is_char: chars == 1,
        }
    };
    let repeated = counts.into_iter().map(seed);
    let mut pieces: Vec<_> = repeated
        .filter(|p| p.is_char || p.score >= 2.0 * p.text.chars().count() as f64)
        .collect();
    pieces.sort_by(|a, b| b.is_char.cmp(&a.is_char).then_with(|| a.likelier(b)));
    pieces.truncate(SEEDS);
    // Not in the order of the table, which differs each time.
    let sum: f64 = pieces.iter().map(|p| p.score).sum();
    for piece in &mut pieces {
        piece.score = (piece.score / sum).ln();
    }
    Model::new(pieces)
}

impl<'a> Model<'a> {
    fn new(pieces: Vec<Piece<'a>>) -> Self {
        let ids = pieces.iter().enumerate().map(|(id, p)| (p.text, id));
        let ids = ids.collect();
        Self { pieces, ids }
    }

    /// The pieces in a word, those that start first before the others.
    fn edges(&self, word: &Cut<'a>) -> Vec<Edge> {
        let stretches = word.stretches();
        let known = |(start, end, text)| Some((start, end, *self.ids.get(text)?));
        stretches.filter_map(known).collect()
    }

    /// How often each piece is expected over all ways to cut the words (forward-backward).
    fn expected(&self, words: &[Cut<'a>]) -> Vec<f64> {
        let mut expected = vec![0.0; self.pieces.len()];
        for word in words {
            let edges = self.edges(word);
            let nothing = vec![f64::NEG_INFINITY; word.len() + 1];
            let (mut before, mut after) = (nothing.clone(), nothing);
            before[0] = 0.0;
            after[word.len()] = 0.0;
            for (start, end, id) in &edges {
                before[*end] = log_sum(before[*end], before[*start] + self.pieces[*id].score);
            }
            for (start, end, id) in edges.iter().rev() {
                after[*start] = log_sum(after[*start], after[*end] + self.pieces[*id].score);
            }
            let all = before[word.len()];
            for (start, end, id) in edges {
                let path = before[start] + self.pieces[id].score + after[end];
                expected[id] += word.count * (path - all).exp();
            }
        }
        expected
    }

    /// New probabilities, with the sparse prior of the variational M step; rare pieces go.
    fn maximize(&mut self, expected: &[f64]) {
        let pieces = std::mem::take(&mut self.pieces);
        let kept = pieces.into_iter().zip(expected);
        let kept = kept.filter(|(p, expected)| p.is_char || **expected >= LEAST_EXPECTED);
        let kept: Vec<_> = kept.map(|(p, e)| (p, e.max(LEAST_EXPECTED))).collect();
        let sum = digamma(kept.iter().map(|(_, expected)| expected).sum());
        let scored = kept.into_iter().map(|(piece, expected)| Piece {
            score: digamma(expected) - sum,
            ..piece
        });
        *self = Self::new(scored.collect());
    }

    /// Keeps the characters and of the other pieces those without which the texts' likelihood falls most, `target` in all.
    fn prune(&mut self, words: &[Cut<'a>], target: usize) {
        let mut used = vec![0.0; self.pieces.len()];
        // In how many words.
        let mut reach = used.clone();
        for word in words {
            let mut ids = self.best(word, None);
            ids.iter().for_each(|id| used[*id] += word.count);
            ids.sort_unstable();
            ids.dedup();
            ids.iter().for_each(|id| reach[*id] += word.count);
        }
        let sum: f64 = used.iter().sum();
        let loss = |id: usize, piece: &Piece<'a>| {
            let instead = self.best(&Cut::new(piece.text, 1), Some(id));
            let score: f64 = instead.iter().map(|id| self.pieces[*id].score).sum();
            // It is found in no best cut.
            if used[id] == 0.0 || score > piece.score {
                return None;
            }
            let sum_instead = (sum + used[id] * (instead.len() as f64 - 1.0)).ln();
            let of_part = |part: &usize| (used[*part] + used[id]).ln() - sum_instead;
            let instead: f64 = instead.iter().map(of_part).sum();
            Some(reach[id] * (used[id].ln() - sum.ln() - instead))
        };
        let mut kept = Vec::new();
        let mut others = Vec::new();
        for (id, piece) in self.pieces.iter().enumerate() {
            if piece.is_char {
                kept.push(piece.clone());
            } else if let Some(loss) = loss(id, piece) {
                others.push((id, loss));
            }
        }
        others.sort_by(|(i, a), (j, b)| b.total_cmp(a).then_with(|| i.cmp(j)));
        let others = others.iter().take(target.saturating_sub(kept.len()));
        kept.extend(others.map(|(id, _)| self.pieces[*id].clone()));
        *self = Self::new(kept);
    }

    /// The likeliest cut of a word (Viterbi), where asked for without one piece.
    fn best(&self, word: &Cut<'a>, without: Option<usize>) -> Vec<usize> {
        let mut best = vec![(f64::NEG_INFINITY, 0, 0); word.len() + 1];
        best[0].0 = 0.0;
        for (start, end, id) in self.edges(word) {
            let score = best[start].0 + self.pieces[id].score;
            if Some(id) != without && score > best[end].0 {
                best[end] = (score, start, id);
            }
        }
        let mut ids = Vec::new();
        let mut end = word.len();
        while end > 0 {
            let (_, start, id) = best[end];
            ids.push(id);
            end = start;
        }
        ids
    }
}

/// ln(e^a + e^b).
fn log_sum(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    match low {
        f64::NEG_INFINITY => high,
        _ => high + (low - high).exp().ln_1p(),
    }
}

/// The derivative of ln gamma, for x > 0 (Abramowitz and Stegun, 6.3.5 and 6.3.18).
fn digamma(mut x: f64) -> f64 {
    let mut below = 0.0;
    while x < 7.0 {
        below -= 1.0 / x;
        x += 1.0;
    }
    let y = 1.0 / (x * x);
    let series = y * (1.0 / 12.0 - y * (1.0 / 120.0 - y * (1.0 / 252.0 - y / 240.0)));
    below + x.ln() - 0.5 / x - series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[(&str, u32)]) -> Vec<Word> {
        words.iter().map(|(w, n)| ((*w).to_owned(), *n)).collect()
    }

    #[test]
    fn digamma_has_the_tables_values() {
        // Euler's constant and 2 ln 2 (Abramowitz and Stegun, 6.3.2 and 6.3.3); psi(10) from table 6.1.
        let euler = 0.577_215_664_901_532_9;
        assert!((digamma(1.0) + euler).abs() < 1e-8);
        assert!((digamma(0.5) + euler + 2.0 * 2f64.ln()).abs() < 1e-8);
        assert!((digamma(10.0) - 2.251_752_589).abs() < 1e-9);
    }

    /// All ways to cut "abc" counted by hand.
    #[test]
    fn expectations_are_those_of_all_cuts() {
        let words = words(&[("abc", 3)]);
        let words: Vec<_> = words.iter().map(|(w, n)| Cut::new(w, *n)).collect();
        let probabilities = [
            ("a", 0.3),
            ("b", 0.2),
            ("c", 0.1),
            ("ab", 0.25),
            ("bc", 0.15),
        ];
        let piece = |(text, p): (&'static str, f64)| Piece {
            text,
            score: p.ln(),
            is_char: text.len() == 1,
        };
        let model = Model::new(probabilities.map(piece).into());
        // a b c, ab c, a bc
        let [by_letters, ab_c, a_bc] = [0.3 * 0.2 * 0.1, 0.25 * 0.1, 0.3 * 0.15];
        let all: f64 = by_letters + ab_c + a_bc;
        let want = [by_letters + a_bc, by_letters, by_letters + ab_c, ab_c, a_bc];
        for (got, want) in model.expected(&words).iter().zip(want) {
            assert!((got - 3.0 * want / all).abs() < 1e-12);
        }
        assert_eq!(model.best(&words[0], None), [4, 0]);
        assert_eq!(model.best(&words[0], Some(4)), [2, 3]);
    }

    #[test]
    fn a_frequent_word_is_a_piece_and_every_character_stays() {
        let words = words(&[("▁pneumonia", 50), ("▁xray", 50), ("▁q", 1)]);
        let pieces = train(&words, 20);
        let texts: Vec<_> = pieces.iter().map(|(text, _)| text.as_str()).collect();
        assert!(
            texts.contains(&"▁pneumonia") && texts.contains(&"▁xray"),
            "{texts:?}"
        );
        for c in "▁pneumoniaxrayq".chars() {
            assert!(texts.contains(&c.to_string().as_str()), "{c}");
        }
        assert!(pieces.len() <= 20);
        assert!(pieces.is_sorted_by(|(_, a), (_, b)| a >= b));
        assert!(
            pieces
                .iter()
                .all(|(_, score)| score.is_finite() && *score < 0.0)
        );
    }
}
