//! Saved probes: the same after loading; other embeddings and damaged files refused.

use medsiglip::embedding::{Embeddings, Provenance};
use medsiglip::probe::{Features, Fit, Head, Kind, Penalty, Probe, Recipe, Task};

use crate::noisy;

fn provenance() -> Provenance {
    Provenance {
        medsiglip: "0.1.0".into(),
        model: "mini".into(),
        checksum: "ab".repeat(32),
        config_checksum: "cd".repeat(32),
        device: "cpu".into(),
        dtype: "f32".into(),
        precision: None,
        recipe: "hf".into(),
        pad: "none".into(),
        canonicalizer: None,
        resolution: 448,
        positions: None,
        normalized: false,
    }
}

/// A binary, a multinomial and a one-against-the-rest head on the same embeddings.
fn probe(normalize: bool) -> (Probe, Embeddings) {
    let (x, labels) = noisy();
    let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
    let embeddings = Embeddings::new(60, x).unwrap();
    let three: Vec<usize> = labels
        .iter()
        .enumerate()
        .map(|(i, l)| l + usize::from(i % 5 == 0))
        .collect();
    let three = Task::new(3, three).unwrap();
    let mut tasks = vec![Task::new(2, labels).unwrap(), three.clone()];
    tasks.extend(three.one_vs_rest());
    let recipe = Recipe {
        normalize,
        standardize: true,
        ..Recipe::default()
    };
    let all: Vec<usize> = (0..160).collect();
    let fitted = recipe
        .fit(&Features::of(&embeddings).unwrap(), &tasks, &all, &[0.1])
        .unwrap();
    let fits: Vec<Fit> = fitted.fits.into_iter().flatten().collect();
    let names = |n: usize| (0..n).map(|i| format!("class {i}")).collect();
    let head = |name, n, kind, fits: &[Fit]| {
        Head::new(
            name,
            names(n),
            kind,
            fits,
            Penalty::L2,
            fitted.scaler.clone(),
        )
        .unwrap()
    };
    let heads = vec![
        head("effusion", 2, Kind::Binary, &fits[..1]),
        head("grade", 3, Kind::Multinomial, &fits[1..2]),
        head("tissue", 3, Kind::OneVsRest, &fits[2..]),
    ];
    let probe = Probe {
        dim: 60,
        normalize,
        provenance: Some(provenance()),
        heads,
    };
    (probe, embeddings)
}

#[test]
fn a_saved_probe_predicts_as_before() {
    for normalize in [false, true] {
        let (probe, embeddings) = probe(normalize);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("probe");
        probe.save(&path).unwrap();
        let loaded = Probe::load(&path).unwrap();
        assert_eq!(loaded, probe);
        let before = probe.predict(&embeddings, Some(&provenance())).unwrap();
        assert_eq!(
            loaded.predict(&embeddings, Some(&provenance())).unwrap(),
            before
        );
        for (values, classes) in before.iter().zip([2, 3, 3]) {
            assert_eq!(values.len(), 160 * classes);
            assert!(
                values
                    .chunks_exact(classes)
                    .all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-12)
            );
        }
        // Embeddings of any length are the same to a probe that divides by it, and to no other.
        let doubled =
            Embeddings::new(60, embeddings.data().iter().map(|x| x * 2.0).collect()).unwrap();
        let same = probe.predict(&doubled, Some(&provenance())).unwrap() == before;
        assert_eq!(same, normalize);
        // Saved again over itself: yes. Over what is not ours: no.
        probe.save(&path).unwrap();
        std::fs::write(path.join("thesis.txt"), "").unwrap();
        assert_eq!(probe.save(&path).unwrap_err().code(), "BAD_ARGUMENT");
    }
}

#[test]
fn embeddings_made_otherwise_are_refused_with_the_reason() {
    let (probe, embeddings) = probe(false);
    let made = provenance;
    let wrong = [
        (
            "weights",
            Provenance {
                checksum: "ef".repeat(32),
                ..made()
            },
        ),
        (
            "recipe",
            Provenance {
                recipe: "eval-tf".into(),
                ..made()
            },
        ),
        (
            "padding",
            Provenance {
                pad: "square".into(),
                ..made()
            },
        ),
        (
            "resolution",
            Provenance {
                resolution: 224,
                ..made()
            },
        ),
        (
            "normalised",
            Provenance {
                normalized: true,
                ..made()
            },
        ),
    ];
    for (what, wrong) in wrong {
        let error = probe.predict(&embeddings, Some(&wrong)).unwrap_err();
        assert_eq!(error.code(), "BAD_ARGUMENT");
        assert!(
            error.to_string().contains(&format!("with {what} ")),
            "{error}"
        );
    }
    assert!(probe.predict(&embeddings, None).is_err());
    let narrow = Embeddings::new(30, embeddings.data().to_vec()).unwrap();
    assert!(
        probe
            .predict(&narrow, Some(&made()))
            .unwrap_err()
            .to_string()
            .contains("width 60, got 30")
    );
    // Another machine or storage gives the same embeddings to rounding.
    let elsewhere = Provenance {
        device: "cuda".into(),
        model: "/other/folder".into(),
        ..made()
    };
    assert!(probe.predict(&embeddings, Some(&elsewhere)).is_ok());
}

#[test]
fn damaged_probes_are_errors() {
    let (probe, _) = probe(false);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("probe");
    let damage = |file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        probe.save(&path).unwrap();
        let bytes = std::fs::read(path.join(file)).unwrap();
        std::fs::write(path.join(file), change(bytes)).unwrap();
        Probe::load(&path).unwrap_err().code()
    };
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(from));
            text.replace(from, to).into_bytes()
        }
    };
    assert_eq!(
        damage("probe.json", &|b| b[..b.len() / 2].to_vec()),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("probe.json", &replace("\"format\": 1", "\"format\": 9")),
        "UNSUPPORTED"
    );
    assert_eq!(
        damage("probe.json", &replace("\"dim\": 60", "\"dim\": 61")),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage(
            "probe.json",
            &replace("\"dim\": 60", "\"dim\": 18446744073709551615")
        ),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("probe.json", &replace("\"binary\"", "\"multinomial\"")),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("probe.json", &replace("\"normalize\"", "\"normal\"")),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("probe.safetensors", &|b| b[..b.len() - 8].to_vec()),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("probe.safetensors", &|b| vec![0xFF; b.len()]),
        "BAD_CONFIG"
    );
    let nan = |mut bytes: Vec<u8>| {
        let end = bytes.len();
        bytes[end - 8..].copy_from_slice(&f64::NAN.to_le_bytes());
        bytes
    };
    assert_eq!(damage("probe.safetensors", &nan), "BAD_CONFIG");
}
