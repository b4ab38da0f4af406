//! A checkpoint's `preprocessor_config.json`, followed exactly or refused.

use std::fmt;

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
    /// `None` where `do_rescale` is false.
    rescale: Option<f64>,
    /// Mean and standard deviation; `None` where `do_normalize` is false.
    normalize: Option<([f64; 3], [f64; 3])>,
}

impl ProcessorConfig {
    /// The float of every 8-bit level.
    pub(super) fn levels(&self) -> Levels {
        levels(self.rescale, self.normalize)
    }
}

/// `bicubic, mean 0.5, std 0.5, rescale 1/255`.
impl fmt::Display for ProcessorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.filter.map_or("no resize", Filter::name))?;
        match self.normalize {
            Some((mean, std)) => write!(f, ", mean {}, std {}", joined(mean), joined(std))?,
            None => f.write_str(", no normalization")?,
        }
        match self.rescale {
            Some(ONE_255TH) => f.write_str(", rescale 1/255"),
            Some(factor) => write!(f, ", rescale {factor}"),
            None => f.write_str(", no rescale"),
        }
    }
}

/// One number where all channels have the same.
fn joined([r, g, b]: [f64; 3]) -> String {
    if r == g && g == b {
        r.to_string()
    } else {
        format!("{r} {g} {b}")
    }
}

/// The fields that change pixels. Absent and null take the defaults of the class that the file names, else of
/// `SiglipImageProcessor` (transformers 4.51.3); the two families differ in `resample` alone.
///
/// `do_convert_rgb` is not among them: pictures reach us as gray or RGB, and gray becomes RGB for the model in
/// either case, where the reference without it would fail on gray.
#[derive(Deserialize)]
struct Fields {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    resample: Option<u64>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<PerChannel>,
    image_std: Option<PerChannel>,
    size: Option<Value>,
    do_center_crop: Option<bool>,
    do_pad: Option<bool>,
    do_pan_and_scan: Option<bool>,
}

impl Fields {
    fn is_gemma3(&self) -> bool {
        let kinds = [&self.image_processor_type, &self.feature_extractor_type];
        let mut kinds = kinds.into_iter().flatten();
        kinds.any(|kind| kind.starts_with("Gemma3"))
    }
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

/// Reads the text of the file. Its `size` is not followed: the model's own resolution is, which the user may have changed.
pub(super) fn parse(text: &str) -> Result<ProcessorConfig> {
    let fields: Fields = serde_json::from_str(text)
        .map_err(|e| Error::BadConfig(format!("preprocessor_config.json: {e}")))?;
    check_kind(&fields)?;
    let filter = if fields.do_resize.unwrap_or(true) {
        let code = fields
            .resample
            .unwrap_or(if fields.is_gemma3() { 2 } else { 3 });
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
    let config = ProcessorConfig {
        filter,
        rescale,
        normalize,
    };
    if config.levels().iter().flatten().any(|v| !v.is_finite()) {
        return Err(bad(
            "rescale_factor, image_mean or image_std",
            "values that give finite pixels",
            "others",
        ));
    }
    Ok(config)
}

fn check_kind(fields: &Fields) -> Result<()> {
    // The "fast" processor is the same recipe done by torchvision, at most one step of 255 away; transformers 5 writes
    // its name, or `SiglipImageProcessorPil`, into every checkpoint that it saves.
    let known = [
        "SiglipImageProcessor",
        "SiglipImageProcessorFast",
        "SiglipImageProcessorPil",
        "SiglipFeatureExtractor",
        // MedGemma's: the same steps, bilinear unless its file says otherwise.
        "Gemma3ImageProcessor",
        "Gemma3ImageProcessorFast",
        "Gemma3ImageProcessorPil",
    ];
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
        ("do_pan_and_scan", fields.do_pan_and_scan),
    ] {
        if flag == Some(true) {
            return Err(bad(name, "false or absent", "true"));
        }
    }
    check_size(fields)
}

/// A square side is the model's business; any other kind of size ("shortest_edge") keeps the aspect ratio.
///
/// A plain number is a square to the `Gemma3ImageProcessor` family alone: `SiglipImageProcessorFast` takes it for
/// the shortest edge, and `SiglipImageProcessor` fails on it.
fn check_size(fields: &Fields) -> Result<()> {
    match &fields.size {
        Some(Value::Number(_)) if fields.is_gemma3() => Ok(()),
        Some(size) if size.get("height").is_none() || size.get("height") != size.get("width") => {
            Err(bad("size", "the same height and width", &size.to_string()))
        }
        _ => Ok(()),
    }
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
        let error = parse(text).unwrap_err();
        assert_eq!(error.code(), "BAD_CONFIG");
        error.to_string()
    }

    #[test]
    fn reads_the_published_file() {
        let text = r#"{"do_convert_rgb": null, "do_normalize": true, "do_rescale": true, "do_resize": true,
            "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5],
            "processor_class": "SiglipProcessor", "resample": 3, "rescale_factor": 0.00392156862745098,
            "size": {"height": 448, "width": 448}}"#;
        let config = parse(text).unwrap();
        assert_eq!(config.filter, Some(Filter::Bicubic));
        let half = [0.5; 3];
        assert_eq!(config.levels(), levels(Some(ONE_255TH), Some((half, half))));
    }

    /// What transformers 5 and MedGemma write.
    #[test]
    fn reads_the_same_recipe_under_its_other_names() {
        for kind in ["SiglipImageProcessorFast", "Gemma3ImageProcessor"] {
            let text = format!(
                r#"{{"image_processor_type": "{kind}", "resample": 2, "size": {{"height": 896, "width": 896}}}}"#
            );
            assert_eq!(parse(&text).unwrap().filter, Some(Filter::Bilinear));
        }
    }

    #[test]
    fn gemma3_has_its_own_default_filter_and_takes_a_plain_number_for_a_square() {
        for kind in ["image_processor_type", "feature_extractor_type"] {
            for class in ["Gemma3ImageProcessor", "Gemma3ImageProcessorFast"] {
                let text = format!(r#"{{"{kind}": "{class}", "size": 448}}"#);
                assert_eq!(parse(&text).unwrap().filter, Some(Filter::Bilinear));
            }
        }
        let text = r#"{"image_processor_type": "SiglipImageProcessorFast", "size": 448}"#;
        assert!(message(text).contains("size"));
    }

    #[test]
    fn absent_fields_take_the_defaults_of_the_reference() {
        assert_eq!(parse("{}").unwrap().filter, Some(Filter::Bicubic));
    }

    #[test]
    fn refuses_by_name_what_it_cannot_follow() {
        assert!(message(r#"{"size": {"shortest_edge": 448}}"#).contains("size"));
        assert!(message(r#"{"do_pan_and_scan": true}"#).contains("do_pan_and_scan"));
        assert!(message(r#"{"resample": 6}"#).contains("resample"));
        assert!(message(r#"{"do_center_crop": true}"#).contains("do_center_crop"));
        assert!(message(r#"{"image_std": 0}"#).contains("image_std"));
        assert!(message(r#"{"image_mean": [0.5]}"#).contains("preprocessor_config.json"));
        assert!(message(r#"{"image_processor_type": "CLIPImageProcessor"}"#).contains("CLIP"));
        assert!(message("[").contains("preprocessor_config.json"));
    }
}
