//! A checkpoint's `preprocessor_config.json`, followed exactly or refused.

use serde::Deserialize;
use serde_json::Value;

use super::levels::{Levels, ONE_255TH, levels};
use super::resample::Filter;
use crate::{Error, Result};

/// What the file says, checked.
#[derive(Debug, PartialEq)]
pub(super) struct ProcessorConfig {
    /// `None` where `do_resize` is false.
    pub(super) filter: Option<Filter>,
    pub(super) levels: Box<Levels>,
}

/// The fields that change pixels. Absent and null take the defaults of `SiglipImageProcessor` (transformers 4.51.3).
///
/// `do_convert_rgb` is not among them: pictures reach us as gray or RGB, and gray becomes RGB for the model in
/// either case, where the reference without it would fail on gray.
#[derive(Deserialize)]
struct Fields {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Value>,
    resample: Option<u64>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<PerChannel>,
    image_std: Option<PerChannel>,
    do_center_crop: Option<bool>,
    do_pad: Option<bool>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum PerChannel {
    All(f64),
    Each([f64; 3]),
}

impl PerChannel {
    fn each(self) -> [f64; 3] {
        match self {
            Self::All(v) => [v; 3],
            Self::Each(v) => v,
        }
    }
}

/// Reads the text of the file; `size` is what the model takes.
pub(super) fn parse(text: &str, size: usize) -> Result<ProcessorConfig> {
    let fields: Fields = serde_json::from_str(text)
        .map_err(|e| Error::BadConfig(format!("preprocessor_config.json: {e}")))?;
    check_kind(&fields)?;
    let filter = if fields.do_resize.unwrap_or(true) {
        check_size(fields.size.as_ref(), size)?;
        let code = fields.resample.unwrap_or(3);
        let filter = Filter::from_code(code).ok_or_else(|| {
            bad(
                "resample",
                "a code of PIL.Image.Resampling, 0 to 5",
                &code.to_string(),
            )
        })?;
        Some(filter)
    } else {
        None
    };
    let rescale = fields
        .do_rescale
        .unwrap_or(true)
        .then(|| fields.rescale_factor.unwrap_or(ONE_255TH));
    let mean = fields.image_mean.map_or([0.5; 3], PerChannel::each);
    let std = fields.image_std.map_or([0.5; 3], PerChannel::each);
    let normalize = fields.do_normalize.unwrap_or(true).then_some((mean, std));
    let levels = Box::new(levels(rescale, normalize));
    if levels.iter().flatten().any(|v| !v.is_finite()) {
        return Err(bad(
            "rescale_factor, image_mean or image_std",
            "values that give finite pixels",
            "others",
        ));
    }
    Ok(ProcessorConfig { filter, levels })
}

fn check_kind(fields: &Fields) -> Result<()> {
    let known = ["SiglipImageProcessor", "SiglipFeatureExtractor"];
    let kinds = [
        ("image_processor_type", &fields.image_processor_type),
        ("feature_extractor_type", &fields.feature_extractor_type),
    ];
    for (name, kind) in kinds {
        if let Some(kind) = kind.as_deref().filter(|k| !known.contains(k)) {
            return Err(bad(
                name,
                "SiglipImageProcessor (the recipe hf is its usual setting)",
                kind,
            ));
        }
    }
    for (name, flag) in [
        ("do_center_crop", fields.do_center_crop),
        ("do_pad", fields.do_pad),
    ] {
        if flag == Some(true) {
            return Err(bad(name, "false or absent", "true"));
        }
    }
    Ok(())
}

fn check_size(value: Option<&Value>, size: usize) -> Result<()> {
    let side = |name| value.map_or(Some(224), |v| v.get(name).and_then(Value::as_u64));
    if [side("height"), side("width")] == [Some(size as u64); 2] {
        return Ok(());
    }
    let got = value.map_or("none (so 224)".into(), Value::to_string);
    Err(bad(
        "size",
        &format!("height and width {size}, as the model takes them"),
        &got,
    ))
}

fn bad(field: &str, expected: &str, got: &str) -> Error {
    Error::BadConfig(format!(
        "preprocessor_config.json: {field}: expected {expected}, got {got}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        let error = parse(text, 448).unwrap_err();
        assert_eq!(error.code(), "BAD_CONFIG");
        error.to_string()
    }

    #[test]
    fn reads_the_published_file() {
        let text = r#"{"do_convert_rgb": null, "do_normalize": true, "do_rescale": true, "do_resize": true,
            "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5],
            "processor_class": "SiglipProcessor", "resample": 3, "rescale_factor": 0.00392156862745098,
            "size": {"height": 448, "width": 448}}"#;
        let config = parse(text, 448).unwrap();
        assert_eq!(config.filter, Some(Filter::Bicubic));
        let half = [0.5; 3];
        assert_eq!(*config.levels, levels(Some(ONE_255TH), Some((half, half))));
    }

    #[test]
    fn absent_fields_take_the_defaults_of_the_reference() {
        assert_eq!(parse("{}", 224).unwrap().filter, Some(Filter::Bicubic));
        assert!(message("{}").contains("size"));
    }

    #[test]
    fn refuses_by_name_what_it_cannot_follow() {
        let size = r#""size": {"height": 448, "width": 448}"#;
        assert!(message(r#"{"size": {"shortest_edge": 448}}"#).contains("size"));
        assert!(message(&format!(r#"{{{size}, "resample": 6}}"#)).contains("resample"));
        assert!(
            message(&format!(r#"{{{size}, "do_center_crop": true}}"#)).contains("do_center_crop")
        );
        assert!(message(&format!(r#"{{{size}, "image_std": 0}}"#)).contains("image_std"));
        assert!(
            message(&format!(r#"{{{size}, "image_mean": [0.5]}}"#))
                .contains("preprocessor_config.json")
        );
        assert!(
            message(&format!(
                r#"{{{size}, "image_processor_type": "CLIPImageProcessor"}}"#
            ))
            .contains("CLIP")
        );
        assert!(message("[").contains("preprocessor_config.json"));
    }
}
