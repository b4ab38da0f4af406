use super::*;

/// The numbers of numpy for two images and three classes, with a temperature of 10 and a bias of -5.
fn classifier(binary: bool) -> Classifier {
    let present = Embeddings::new(3, vec![1., 0., 0., 0., 1., 0., 1., 1., 1.]).unwrap();
    let absent = Embeddings::new(3, vec![0., 0., 1., 0., 1., 1., 1., 1., 1.]).unwrap();
    let labels = ["a", "b", "c"].map(String::from).to_vec();
    let logit = (10f32.ln(), -5.0);
    Classifier::new(labels, present, binary.then_some(absent), pair(logit)).unwrap()
}

fn pair((scale, bias): (f32, f32)) -> Logit {
    Logit { scale, bias }
}

fn images() -> Embeddings {
    Embeddings::new(3, vec![3., 4., 0., 1., -2., 2.]).unwrap()
}

fn assert_close(got: impl Iterator<Item = f32>, expected: &[f64]) {
    let got: Vec<f32> = got.collect();
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let error = (f64::from(*got) - expected).abs();
        assert!(error <= 2e-6 * expected.abs().max(1e-3), "{got} {expected}");
    }
}

#[test]
fn multiclass_scores_are_those_of_numpy() {
    let scores = classifier(false).scores(&images()).unwrap();
    let flat = || scores.iter().flatten();
    assert_close(
        flat().filter_map(|s| s.cosine),
        &[0.6, 0.8, 0.80829038, 0.33333333, -0.66666667, 0.19245009],
    );
    assert_close(
        flat().map(|s| s.logit),
        &[1.0, 3.0, 3.08290377, -1.66666667, -11.66666667, -3.0754991],
    );
    assert_close(
        flat().map(|s| s.probability),
        &[
            7.31058579e-01,
            9.52574127e-01,
            9.56182008e-01,
            1.58869105e-01,
            8.57486557e-06,
            4.41292827e-02,
        ],
    );
    assert_close(
        flat().map(|s| s.softmax),
        &[
            6.09132037e-02,
            4.50091080e-01,
            4.88995717e-01,
            8.03552407e-01,
            3.64812228e-05,
            1.96411112e-01,
        ],
    );
    assert_eq!(scores[1][2].label, "c");
}

#[test]
fn binary_scores_are_those_of_numpy() {
    let scores = classifier(true).scores(&images()).unwrap();
    assert_close(
        scores.iter().flatten().map(|s| s.softmax),
        &[
            0.997527377,
            0.912387871,
            0.5,
            0.0344451957,
            0.00127101626,
            0.5,
        ],
    );
    // The pair score does not know of the absent prompts.
    let multiclass = classifier(false).scores(&images()).unwrap();
    for (a, b) in scores.iter().flatten().zip(multiclass.iter().flatten()) {
        assert_eq!(a.probability, b.probability);
    }
}

#[test]
fn a_class_embedding_is_the_direction_of_the_mean_of_unit_vectors() {
    let prompts = Embeddings::new(3, vec![2., 0., 0., 0., 5., 0., 1., 1., 0.]).unwrap();
    let classes = [vec![0, 1], vec![0, 1, 1], vec![2]];
    let (got, lengths) = class_embeddings(&prompts.normalized(), &classes).unwrap();
    let half = 0.5f64.sqrt();
    assert_close(
        got.data().iter().copied(),
        &[half, half, 0., 0.4472136, 0.89442719, 0., half, half, 0.],
    );
    // The mean of two unit vectors at a right angle, of three of them, and of one.
    let lengths = lengths.iter().map(|l| *l as f32);
    assert_close(lengths, &[half, 0.745355992, 1.]);
    let opposite = Embeddings::new(2, vec![1., 0., -1., 0.]).unwrap();
    let error = class_embeddings(&opposite, &[vec![0, 1]]).unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
}

#[test]
fn ties_share_and_one_class_has_all() {
    let same = Embeddings::new(2, vec![1., 0., 1., 0.]).unwrap();
    let image = Embeddings::new(2, vec![0.3, 0.9]).unwrap();
    let two = Classifier::new(
        vec!["a".into(), "b".into()],
        same.clone(),
        None,
        pair((4.7, -16.)),
    )
    .unwrap();
    let scores = &two.scores(&image).unwrap()[0];
    assert_eq!((scores[0].softmax, scores[1].softmax), (0.5, 0.5));
    let alone = Embeddings::new(2, vec![1., 0.]).unwrap();
    let one = Classifier::new(vec!["a".into()], alone, None, pair((4.7, -16.))).unwrap();
    assert_eq!(one.scores(&image).unwrap()[0][0].softmax, 1.0);
}

#[test]
fn extreme_temperatures_give_numbers() {
    let present = Embeddings::new(2, vec![1., 0., 0., 1.]).unwrap();
    let absent = Embeddings::new(2, vec![-1., 0., 0., -1.]).unwrap();
    let labels = || vec!["a".to_owned(), "b".to_owned()];
    let image = Embeddings::new(2, vec![1., -1.]).unwrap();
    for logit_scale in [-80.0, 0.0, 80.0] {
        for absent in [None, Some(absent.clone())] {
            let classifier =
                Classifier::new(labels(), present.clone(), absent, pair((logit_scale, 1.0)))
                    .unwrap();
            for score in &classifier.scores(&image).unwrap()[0] {
                assert!((0.0..=1.0).contains(&score.softmax), "{score:?}");
                assert!((0.0..=1.0).contains(&score.probability), "{score:?}");
            }
        }
    }
    for logit in [(f32::NAN, 0.0), (1000.0, 0.0), (0.0, f32::INFINITY)] {
        let error = Classifier::new(labels(), present.clone(), None, pair(logit)).unwrap_err();
        assert_eq!(error.code(), "BAD_ARGUMENT");
    }
}

#[test]
fn other_widths_are_refused() {
    let image = Embeddings::new(2, vec![1., 0.]).unwrap();
    assert_eq!(
        classifier(false).scores(&image).unwrap_err().code(),
        "BAD_ARGUMENT"
    );
    let few = Embeddings::new(3, vec![1., 0., 0.]).unwrap();
    assert!(Classifier::new(vec!["a".into(), "b".into()], few, None, pair((0., 0.))).is_err());
    let none = Embeddings::new(3, Vec::new()).unwrap();
    assert!(classifier(true).scores(&none).unwrap().is_empty());
}
