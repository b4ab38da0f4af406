use serde_json::Value;

use super::*;

fn golden() -> (Config, Value) {
    let text = include_str!("../../../tests/data/init/moments.json");
    let golden: Value = serde_json::from_str(text).unwrap();
    let config = Config::from_json(&golden["config"].to_string()).unwrap();
    (config, golden["moments"].clone())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// `got` and `want` differ by at most five standard errors.
fn assert_near(what: &str, name: &str, got: f64, want: f64, error: f64) {
    assert!(
        (got - want).abs() <= 5.0 * error,
        "{name}: {what} {got:e}, transformers' {want:e}, standard error {error:e}"
    );
}

/// `scripts/make_init_golden.py` drew the same model 256 times in transformers.
#[test]
fn weights_are_distributed_as_in_transformers() {
    let (config, moments) = golden();
    let mut drawn = BTreeMap::<String, Vec<f64>>::new();
    for seed in 0..64 {
        let init = Init {
            seed,
            ..Init::default()
        };
        for (name, tensor) in random_weights(&config, &init).unwrap() {
            let numbers = tensor.to_f32();
            let all = drawn.entry(name).or_default();
            all.extend(numbers.iter().map(|x| f64::from(*x)));
        }
    }
    assert_eq!(drawn.len(), moments.as_object().unwrap().len());
    for (name, numbers) in drawn {
        // Options of ours.
        if name == "logit_scale" || name == "logit_bias" {
            continue;
        }
        let want = &moments[&name];
        let count = numbers.len() as f64;
        assert_eq!(count, number(&want["count"]) / 4.0, "{name}");
        let mean = numbers.iter().sum::<f64>() / count;
        let std = (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
        let mean_abs = numbers.iter().map(|x| x.abs()).sum::<f64>() / count;
        let max_abs = numbers.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        let (want_std, want_max) = (number(&want["std"]), number(&want["max_abs"]));
        // Of both samples together, ours and the four times larger one; no kurtosis here is above the normal's.
        let error = std * (1.25 / count).sqrt();
        assert_near("mean", &name, mean, number(&want["mean"]), error);
        assert_near("std", &name, std, want_std, error * 0.5f64.sqrt());
        assert_near(
            "mean magnitude",
            &name,
            mean_abs,
            number(&want["mean_abs"]),
            error * 0.61,
        );
        // Uniform and cut distributions have an end, which both samples come close to; a normal one has none.
        let has_end = want_max < 2.4 * want_std;
        let (least, most) = if has_end { (0.98, 1.001) } else { (0.6, 1.2) };
        let ratio = max_abs / want_max;
        let constant = std == 0.0 && max_abs == want_max;
        assert!(
            constant || (least..=most).contains(&ratio),
            "{name}: largest {ratio} of transformers'"
        );
    }
}

#[test]
fn the_logit_starts_as_in_the_paper_or_as_asked() {
    let (config, _) = golden();
    let scalars = |init: &Init| {
        let weights = random_weights(&config, init).unwrap();
        ["logit_scale", "logit_bias"].map(|name| weights[name].to_f32()[0])
    };
    assert_eq!(scalars(&Init::default()), [10f32.ln(), -10.0]);
    let small: Init = serde_json::from_str(r#"{"logit_bias": -2.71}"#).unwrap();
    assert_eq!(scalars(&small), [10f32.ln(), -2.71]);
}

#[test]
fn a_seed_gives_the_same_weights_and_no_tensor_depends_on_another() {
    let (config, _) = golden();
    let bits = |config: &Config, init: &Init| -> BTreeMap<String, Vec<u32>> {
        let weights = random_weights(config, init).unwrap().into_iter();
        let bits = |t: Tensor| t.to_f32().iter().map(|x| x.to_bits()).collect();
        weights.map(|(name, tensor)| (name, bits(tensor))).collect()
    };
    let mimetic = Init {
        vision: TowerInit {
            attention: AttentionInit::Mimetic,
            position: Position::Sincos,
        },
        ..Init::default()
    };
    for init in [Init::default(), mimetic] {
        let first = bits(&config, &init);
        assert_eq!(first, bits(&config, &init));
        // Another layer, no text tower: what remains stays as it is.
        let mut other = config.clone();
        other.text = None;
        other.vision.num_hidden_layers += 1;
        let longer = bits(&other, &init);
        for (name, numbers) in &first {
            let vision = name.starts_with("vision_model");
            assert_eq!(longer.get(name) == Some(numbers), vision, "{name}");
        }
        let next = Init { seed: 1, ..init };
        let next = bits(&config, &next);
        let name = "vision_model.encoder.layers.0.self_attn.q_proj.weight";
        assert_ne!(first[name], next[name]);
        let other = "vision_model.encoder.layers.1.self_attn.q_proj.weight";
        assert_ne!(first[name], first[other]);
    }
}

/// Numbers of MAE's `get_2d_sincos_pos_embed(8, 3)` and of the transformer's own formula.
#[test]
fn sines_and_cosines_stand_where_the_papers_have_them() {
    let table = sincos_2d(3, 8);
    assert_eq!(table.len(), 9 * 8);
    // Row 1, column 2: sines, then cosines of x = 2 at wavelengths 1 and 100, then those of y = 1.
    let patch = &table[5 * 8..6 * 8];
    let want = [
        0.909297, 0.019999, -0.416147, 0.999800, 0.841471, 0.010000, 0.540302, 0.999950,
    ];
    for (got, want) in patch.iter().zip(want) {
        assert!((got - want).abs() < 1e-6, "{patch:?}");
    }
    let third: Vec<f32> = sincos(3, 4).collect();
    let want = [0.141120, 0.029996, -0.989992, 0.999550];
    for (got, want) in third.iter().zip(want) {
        assert!((got - want).abs() < 1e-6, "{third:?}");
    }
}

#[test]
fn options_change_what_they_name_alone() {
    let (config, _) = golden();
    let plain = random_weights(&config, &Init::default()).unwrap();
    let changed = |json: &str| {
        let init: Init = serde_json::from_str(json).unwrap();
        let weights = random_weights(&config, &init).unwrap();
        assert_eq!(weights.len(), plain.len());
        let differ = |name: &&String| weights[*name].to_f32() != plain[*name].to_f32();
        plain.keys().filter(differ).cloned().collect::<Vec<_>>()
    };
    let position = "embeddings.position_embedding.weight";
    assert_eq!(
        changed(r#"{"text": {"position": "sincos"}}"#),
        [format!("text_model.{position}")]
    );
    assert_eq!(
        changed(r#"{"vision": {"position": "sincos"}}"#),
        [format!("vision_model.{position}")]
    );
    assert_eq!(
        changed(r#"{"patch": "dct"}"#),
        ["vision_model.embeddings.patch_embedding.weight"]
    );
    let mimetic = changed(r#"{"vision": {"attention": "mimetic"}}"#);
    let of_attention =
        |name: &String| name.starts_with("vision_model.encoder") && name.ends_with("_proj.weight");
    assert_eq!(mimetic.len(), 8);
    assert!(mimetic.iter().all(of_attention));
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let (config, _) = golden();
    let refused = |change: &dyn Fn(&mut Config, &mut Init)| {
        let (mut config, mut init) = (config.clone(), Init::default());
        change(&mut config, &mut init);
        random_weights(&config, &init).err().unwrap().code()
    };
    assert_eq!(
        refused(&|_, init| init.logit_bias = f32::NAN),
        "BAD_ARGUMENT"
    );
    assert_eq!(
        refused(&|_, init| init.mimetic.beta2 = f32::INFINITY),
        "BAD_ARGUMENT"
    );
    assert_eq!(
        refused(&|config, init| {
            config.vision.hidden_size = 30;
            config.text = None;
            init.vision.position = Position::Sincos;
        }),
        "BAD_ARGUMENT"
    );
    assert_eq!(
        refused(&|config, _| config.vision.num_attention_heads = 5),
        "BAD_CONFIG"
    );
    assert_eq!(
        refused(&|config, _| {
            config.vision.hidden_size = 16_384;
            config.vision.num_hidden_layers = 256;
            config.text = None;
        }),
        "LIMIT_EXCEEDED"
    );
    for json in [
        r#"{"sed": 1}"#,
        r#"{"vision": {"position": "learned"}}"#,
        r#"{"patch": "cosine"}"#,
        r#"{"mimetic": {"alpha": 1}}"#,
    ] {
        assert!(serde_json::from_str::<Init>(json).is_err(), "{json}");
    }
}
