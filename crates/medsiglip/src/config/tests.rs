use super::*;

/// The published `config.json` of google/medsiglip-448, cut to what matters, with keys that we ignore.
const MEDSIGLIP: &str = r#"{
  "architectures": ["SiglipModel"], "initializer_factor": 1.0, "model_type": "siglip",
  "text_config": {"attention_dropout": 0.0, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 1152,
    "intermediate_size": 4304, "layer_norm_eps": 1e-06, "max_position_embeddings": 64,
    "model_type": "siglip_text_model", "num_attention_heads": 16, "num_hidden_layers": 27,
    "projection_size": 1152, "vocab_size": 32000},
  "torch_dtype": "float32", "transformers_version": "4.50.0.dev0",
  "vision_config": {"attention_dropout": 0.0, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 1152,
    "image_size": 448, "intermediate_size": 4304, "layer_norm_eps": 1e-06,
    "model_type": "siglip_vision_model", "num_attention_heads": 16, "num_channels": 3,
    "num_hidden_layers": 27, "patch_size": 14}
}"#;

#[test]
fn reads_medsiglip() {
    let config = Config::from_json(MEDSIGLIP).unwrap();
    let text = config.text.as_ref().unwrap();
    assert_eq!(config.vision.num_patches(), 1024);
    assert_eq!(config.vision.hidden_size, 1152);
    assert!(config.vision.use_head);
    assert_eq!((text.vocab_size, text.projection_size), (32_000, 1152));
}

#[test]
fn absent_fields_take_the_defaults_of_transformers() {
    let config = Config::from_json(r#"{"model_type": "siglip", "text_config": null}"#).unwrap();
    let v = &config.vision;
    assert_eq!(
        (v.hidden_size, v.intermediate_size, v.num_hidden_layers),
        (768, 3072, 12)
    );
    assert_eq!((v.num_attention_heads, v.num_channels), (12, 3));
    assert_eq!(
        (v.image_size, v.patch_size, v.layer_norm_eps),
        (224, 16, 1e-6)
    );
    let t = config.text.unwrap();
    assert_eq!(
        (t.hidden_size, t.vocab_size, t.max_position_embeddings),
        (768, 32_000, 64)
    );
    assert_eq!((t.projection_size, t.layer_norm_eps), (768, 1e-6));
}

#[test]
fn gemma_has_no_head_and_no_text_tower_for_us() {
    let json = r#"{"model_type": "gemma3", "text_config": {"hidden_size": 2560},
        "vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16,
        "num_hidden_layers": 27, "image_size": 896, "patch_size": 14}}"#;
    let config = Config::from_json(json).unwrap();
    assert_eq!(config.vision.num_patches(), 4096);
    assert!(!config.vision.use_head);
    assert_eq!(config.text, None);
}

#[test]
fn the_grid_is_rounded_down() {
    let json = r#"{"model_type": "siglip_vision_model", "image_size": 384, "patch_size": 14}"#;
    let config = Config::from_json(json).unwrap();
    assert_eq!(config.vision.grid(), 27);
    assert!(config.vision.use_head);
}

#[test]
fn what_is_written_reads_back() {
    for json in [
        MEDSIGLIP,
        r#"{"model_type": "siglip_vision_model", "vision_use_head": false, "layer_norm_eps": 1e-5}"#,
    ] {
        let config = Config::from_json(json).unwrap();
        assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
    }
    assert!(
        Config::from_json(MEDSIGLIP)
            .unwrap()
            .to_json()
            .contains("1e-6")
    );
}

#[test]
fn errors_name_the_field_and_both_values() {
    for (json, code, message) in [
        (r#"{"#, "BAD_CONFIG", "config.json is not valid json"),
        (
            r#"[]"#,
            "BAD_CONFIG",
            "config.json: expected an object, got an array",
        ),
        (r#"{}"#, "BAD_CONFIG", "model_type: expected siglip"),
        (
            r#"{"model_type": 3}"#,
            "BAD_CONFIG",
            "model_type: expected a string, got 3",
        ),
        (r#"{"model_type": "siglip2"}"#, "UNSUPPORTED", "got siglip2"),
        (r#"{"model_type": "clip"}"#, "UNSUPPORTED", "got clip"),
        (
            r#"{"model_type": "siglip", "vision_config": {"hidden_act": "gelu"}}"#,
            "UNSUPPORTED",
            "vision_config.hidden_act: expected gelu_pytorch_tanh, got gelu",
        ),
        (
            r#"{"model_type": "siglip", "vision_config": {"num_channels": 1}}"#,
            "UNSUPPORTED",
            "vision_config.num_channels: expected 3, got 1",
        ),
        (
            r#"{"model_type": "siglip", "text_config": {"hidden_size": "768"}}"#,
            "BAD_CONFIG",
            "text_config.hidden_size: expected a whole number, got the string \"768\"",
        ),
        (
            r#"{"model_type": "siglip", "vision_config": {"hidden_size": -768}}"#,
            "BAD_CONFIG",
            "vision_config.hidden_size: expected a whole number, got -768",
        ),
        (
            r#"{"model_type": "siglip", "vision_config": 7}"#,
            "BAD_CONFIG",
            "vision_config: expected an object, got 7",
        ),
        (
            r#"{"model_type": "siglip", "vision_config": {"num_attention_heads": 7}}"#,
            "BAD_CONFIG",
            "vision_config.num_attention_heads: expected a divisor of hidden_size, 768, got 7",
        ),
        (
            r#"{"model_type": "siglip", "vision_config": {"num_attention_heads": 0}}"#,
            "BAD_CONFIG",
            "got 0",
        ),
        (
            r#"{"model_type": "siglip", "vision_config": {"patch_size": 0}}"#,
            "BAD_CONFIG",
            "vision_config.patch_size: expected 1 to 1024, got 0",
        ),
        (
            r#"{"model_type": "siglip", "vision_config": {"num_hidden_layers": 18446744073709551615}}"#,
            "BAD_CONFIG",
            "vision_config.num_hidden_layers: expected 1 to 256",
        ),
        (
            r#"{"model_type": "siglip", "vision_config": {"image_size": 8, "patch_size": 16}}"#,
            "BAD_CONFIG",
            "vision_config.patch_size: expected at most image_size, 8, got 16",
        ),
        (
            r#"{"model_type": "siglip", "vision_config": {"layer_norm_eps": 0}}"#,
            "BAD_CONFIG",
            "vision_config.layer_norm_eps",
        ),
        (
            r#"{"model_type": "siglip", "text_config": {"projection_size": 512}}"#,
            "BAD_CONFIG",
            "text_config.projection_size: expected the vision tower's width, 768, got 512",
        ),
        (
            r#"{"model_type": "siglip_vision_model", "vision_use_head": 1}"#,
            "BAD_CONFIG",
            "vision_use_head: expected true or false, got 1",
        ),
    ] {
        let error = Config::from_json(json).unwrap_err();
        assert_eq!(error.code(), code, "{json}");
        assert!(error.to_string().contains(message), "{json}: {error}");
    }
}

fn classifier(fields: &str) -> Result<Config> {
    let json = format!(
        r#"{{"architectures": ["SiglipForImageClassification"], "model_type": "siglip", {fields}
            "vision_config": {{"hidden_size": 64, "num_attention_heads": 4}}}}"#
    );
    Config::from_json(&json)
}

#[test]
fn a_classifier_has_classes_and_no_text_tower() {
    let fields = r#""id2label": {"1": "b", "0": "a", "2": "c"}, "problem_type": "multi_label_classification","#;
    let config = classifier(fields).unwrap();
    assert!(config.text.is_none() && config.vision.use_head && config.has_image_embedding());
    let classes = config.classes.clone().unwrap();
    assert_eq!(classes.kind, ClassKind::Multilabel);
    assert_eq!(classes.labels, ["a", "b", "c"]);
    assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
    let default = classifier("").unwrap().classes.unwrap();
    assert_eq!(default.labels, ["LABEL_0", "LABEL_1"]);
    assert_eq!(default.kind, ClassKind::Multiclass);
}

#[test]
fn a_classifier_that_cannot_be_is_refused() {
    for (fields, code, what) in [
        (
            r#""id2label": {"0": "a", "2": "b"},"#,
            "BAD_CONFIG",
            "from 0 on",
        ),
        (r#""id2label": {"0": 1},"#, "BAD_CONFIG", "from 0 on"),
        (r#""id2label": ["a"],"#, "BAD_CONFIG", "an array"),
        (r#""id2label": {"0": "a"},"#, "UNSUPPORTED", "regression"),
        (
            r#""problem_type": "regression","#,
            "UNSUPPORTED",
            "regression",
        ),
        (r#""problem_type": "ranking","#, "BAD_CONFIG", "got ranking"),
        (
            r#""id2label": {}, "problem_type": "multi_label_classification","#,
            "BAD_CONFIG",
            "1 to 65536 classes, got 0",
        ),
    ] {
        let error = classifier(fields).unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(what), "{error}");
    }
}
