//! [`Device`]: where the towers run, by name; [`Precision`]: in what a GPU multiplies.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, named};

/// Where the towers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The first GPU of the backends that are compiled in; the CPU where there is none.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU: of those that the backend finds, the one of this number, from 0.
    Gpu(Backend, u16),
}

/// What a GPU is reached through. Each is a Cargo feature of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// NVIDIA's.
    Cuda,
    /// AMD's.
    Rocm,
    /// Apple's.
    Metal,
    /// Vulkan, with shaders in SPIR-V.
    Vulkan,
    /// Whatever graphics API there is, with WebGPU's shaders; Vulkan and Metal with their own where these are compiled in.
    WebGpu,
}

impl Backend {
    /// Every backend, in the order in which [`Device::Auto`] looks.
    pub const ALL: [Self; 5] = [
        Self::Cuda,
        Self::Rocm,
        Self::Metal,
        Self::Vulkan,
        Self::WebGpu,
    ];

    /// The backend's stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
            Self::WebGpu => "webgpu",
        }
    }

    /// Whether this build has it.
    pub fn is_compiled_in(self) -> bool {
        match self {
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Rocm => cfg!(feature = "rocm"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::WebGpu => cfg!(feature = "webgpu"),
        }
    }

    /// # Errors
    /// `UNSUPPORTED` where this build does not have it.
    pub(crate) fn check(self) -> Result<()> {
        if self.is_compiled_in() {
            return Ok(());
        }
        let gpus = Self::ALL.into_iter().filter(|b| b.is_compiled_in());
        let has: Vec<_> = ["cpu"].into_iter().chain(gpus.map(Self::name)).collect();
        let name = self.name();
        Err(Error::Unsupported(format!(
            "device {name}: this build does not have it (it has {}); build medsiglip with the Cargo feature {name}",
            has.join(", ")
        )))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Cpu => f.pad("cpu"),
            Self::Gpu(backend, number) => f.pad(&format!("{}:{number}", backend.name())),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let (backend, number) = match name {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            _ => name.split_once(':').unwrap_or((name, "0")),
        };
        let known = Backend::ALL.into_iter().find(|b| b.name() == backend);
        let (Some(backend), Ok(number)) = (known, number.parse()) else {
            let names = Backend::ALL.map(Backend::name).join(", ");
            return Err(Error::BadArgument(format!(
                "device: expected auto, cpu, or one of {names} with a number such as cuda:0, got {name}"
            )));
        };
        backend.check()?;
        Ok(Self::Gpu(backend, number))
    }
}

/// In what a GPU multiplies. The CPU engine knows f32 alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16 within the layers; weights, norms, sums between layers, embeddings and pooling stay in f32.
    Bf16,
}

impl Precision {
    /// Both, in the order in which help texts list them.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Whether it is the default.
    pub(crate) fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        named::parse("precision", &Self::ALL, Self::name, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for device in [Device::Auto, Device::Cpu] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!(Device::Gpu(Backend::WebGpu, 2).to_string(), "webgpu:2");
        for backend in Backend::ALL {
            for (name, number) in [("", 0), (":0", 0), (":3", 3)] {
                let parsed = format!("{}{name}", backend.name()).parse::<Device>();
                match backend.is_compiled_in() {
                    true => assert_eq!(parsed.unwrap(), Device::Gpu(backend, number)),
                    false => assert_eq!(parsed.unwrap_err().code(), "UNSUPPORTED"),
                }
            }
        }
    }

    #[test]
    fn other_names_are_refused_with_those_that_there_are() {
        for name in [
            "",
            "gpu",
            "cuda:",
            "cuda:-1",
            "cuda:x",
            "cuda:65536",
            "CPU",
            "cpu:0",
        ] {
            let error = name.parse::<Device>().unwrap_err();
            assert_eq!(error.code(), "BAD_ARGUMENT", "{name}");
            assert_eq!(
                error.to_string(),
                format!(
                    "device: expected auto, cpu, or one of cuda, rocm, metal, vulkan, webgpu with a number such as cuda:0, got {name}"
                )
            );
        }
    }

    #[test]
    fn what_is_not_compiled_in_is_named_with_its_feature() {
        let missing = Backend::ALL.into_iter().find(|b| !b.is_compiled_in());
        let Some(missing) = missing else { return };
        let message = missing.name().parse::<Device>().unwrap_err().to_string();
        let feature = format!("with the Cargo feature {}", missing.name());
        assert!(message.ends_with(&feature), "{message}");
        assert!(message.contains("(it has cpu"), "{message}");
        for backend in Backend::ALL.into_iter().filter(|b| b.is_compiled_in()) {
            assert!(message.contains(backend.name()), "{message}");
        }
    }
}
