//! Flags of DICOM files.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use medsiglip::image::dicom::{CtWindows, DisplayOptions, DisplayRule, WindowChoice};
use medsiglip::preprocess::Recipe;

use super::one_of;
use crate::inputs::FrameChoice;
use crate::messages::{Failure, Result};

/// How DICOM files become pictures, and what of them the output says.
#[derive(Debug, Args)]
#[command(next_help_heading = "DICOM")]
pub struct DicomArgs {
    #[command(flatten)]
    pub display: DisplayArgs,
    /// Frames of multi-frame files, and slices of a series in a folder: all, first, middle or every:N
    #[arg(long, value_name = "WHICH", default_value_t)]
    pub frames: FrameChoice,
    /// At most as many frames of a file or slices of a series, evenly chosen; MedGemma 1.5 takes 85 [default: no limit]
    #[arg(long, value_name = "N")]
    pub max_frames: Option<NonZeroUsize>,
    /// The patient id in the output: none, or its HMAC-SHA-256 under the key of --patient-key-file
    #[arg(long, value_enum, default_value_t = PatientId::Drop)]
    pub patient_id: PatientId,
    /// The key of --patient-id hash: a file whose bytes nobody else has
    #[arg(long, value_name = "FILE")]
    pub patient_key_file: Option<PathBuf>,
}

/// How the stored values of DICOM files are shown.
#[derive(Debug, Args)]
#[command(next_help_heading = "DICOM")]
pub struct DisplayArgs {
    /// Display rule: the DICOM display pipeline, or what the public serving container does
    /// [default: container with --recipe container, else standard]
    #[arg(long, value_parser = one_of::<DisplayRule>(&["standard", "container"]))]
    pub display: Option<DisplayRule>,
    /// Windows of CT: medsiglip (the three of training, as RGB), gray (the file's own), or one or three of
    /// CENTER/WIDTH in HU, lung, mediastinum, soft-tissue, liver, bone, temporal-bone, brain, stroke, subdural, with
    /// commas between
    #[arg(
        long,
        value_name = "WINDOWS",
        default_value_t,
        allow_hyphen_values = true
    )]
    pub ct_windows: CtWindows,
    /// One window in place of the file's and of --ct-windows: CENTER/WIDTH, a name as there, min-max, or file
    #[arg(
        long,
        value_name = "WINDOW",
        default_value_t,
        allow_hyphen_values = true
    )]
    pub window: WindowChoice,
}

/// What becomes of patient ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PatientId {
    /// Nothing of it is written
    Drop,
    /// A keyed hash, equal for equal ids
    Hash,
}

impl DisplayArgs {
    /// An error where a flag would say nothing to the rule that is taken with `recipe`.
    pub fn check(&self, recipe: Option<Recipe>) -> Result<()> {
        let by_recipe = match recipe {
            Some(Recipe::Container) => DisplayRule::Container,
            _ => DisplayRule::Standard,
        };
        let is_container = self.display.unwrap_or(by_recipe) == DisplayRule::Container;
        if is_container && self.ct_windows != CtWindows::default() {
            return Err(Failure::argument("--ct-windows is for --display standard")
                .hint("the container shows CT through one window: --window CENTER/WIDTH"));
        }
        Ok(())
    }

    /// How stored values become pictures for `recipe`.
    pub fn options(&self, recipe: Recipe) -> DisplayOptions {
        let default = match recipe {
            Recipe::Container => DisplayRule::Container,
            _ => DisplayRule::Standard,
        };
        DisplayOptions {
            rule: self.display.unwrap_or(default),
            ct_windows: self.ct_windows.clone(),
            window: self.window,
        }
    }
}

impl DicomArgs {
    /// The key under which patient ids are hashed; `None` where they are dropped.
    pub fn patient_key(&self) -> Result<Option<Vec<u8>>> {
        match (self.patient_id, &self.patient_key_file) {
            (PatientId::Drop, None) => Ok(None),
            (PatientId::Drop, Some(_)) => Err(Failure::argument(
                "--patient-key-file is for --patient-id hash",
            )),
            (PatientId::Hash, None) => Err(Failure::argument("--patient-id hash needs a key").hint(
                "without one anybody could try out ids: --patient-key-file FILE, for example of \
                 `head -c 32 /dev/urandom > FILE`",
            )),
            (PatientId::Hash, Some(path)) => {
                let key = std::fs::read(path).map_err(|e| Failure::io("read", path, e))?;
                if key.len() < MIN_KEY {
                    return Err(Failure::argument(format!(
                        "patient key: expected at least {MIN_KEY} bytes, got {}: {}",
                        key.len(),
                        path.display()
                    )));
                }
                Ok(Some(key))
            }
        }
    }
}

/// A key shorter than this can be found by trying.
const MIN_KEY: usize = 16;
