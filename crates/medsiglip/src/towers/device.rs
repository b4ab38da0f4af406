//! Burn's devices by our names.

use burn::tensor::{Device as BurnDevice, FloatDType};

use crate::model::{Backend, Device, Precision, not_on_the_cpu};
use crate::{Error, Result};

/// Burn's device for ours, which must multiply in `precision`.
///
/// # Errors
/// `UNSUPPORTED` where this build does not have the backend, or the device not the precision; `DEVICE_ERROR` where this
/// machine does not have the device; `BAD_ARGUMENT` for the CPU in another precision than f32.
pub fn device(device: Device, precision: Precision) -> Result<BurnDevice> {
    let device = found(device);
    let Device::Gpu(backend, number) = device else {
        return match precision {
            Precision::F32 => Ok(BurnDevice::flex()),
            Precision::Bf16 => Err(not_on_the_cpu(precision)),
        };
    };
    backend.check()?;
    let all = list(backend);
    let burn = all.get(usize::from(number)).ok_or_else(|| {
        Error::Device(match all.len() {
            0 => format!("device {device}: no device or no driver of it was found on this machine"),
            count => format!(
                "device {device}: this machine has {count} of {}, numbered from 0",
                backend.name()
            ),
        })
    })?;
    if precision == Precision::Bf16 && !burn.supports_dtype(FloatDType::BF16) {
        return Err(Error::Unsupported(format!(
            "precision bf16: {device} has no arithmetic in it; take f32"
        )));
    }
    Ok(burn.clone())
}

/// The device that is meant: for [`Device::Auto`], the first GPU that is there, or the CPU. A driver that draws in software,
/// as Mesa's llvmpipe, is no GPU.
pub fn found(device: Device) -> Device {
    let gpu = |backend| {
        let number = list(backend).iter().position(|d| !is_software(d))?;
        Some(Device::Gpu(backend, u16::try_from(number).ok()?))
    };
    match device {
        Device::Auto => Backend::ALL
            .into_iter()
            .find_map(gpu)
            .unwrap_or(Device::Cpu),
        device => device,
    }
}

/// The devices that a backend finds; none where it is not compiled in.
fn list(backend: Backend) -> Vec<BurnDevice> {
    #[cfg(any(
        feature = "cuda",
        feature = "rocm",
        feature = "metal",
        feature = "vulkan",
        feature = "webgpu"
    ))]
    use burn::tensor::DeviceType;
    match backend {
        #[cfg(feature = "cuda")]
        Backend::Cuda => BurnDevice::enumerate(DeviceType::Cuda).into_vec(),
        #[cfg(feature = "rocm")]
        Backend::Rocm => BurnDevice::enumerate(DeviceType::Rocm).into_vec(),
        #[cfg(feature = "metal")]
        Backend::Metal => BurnDevice::enumerate(DeviceType::Metal).into_vec(),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => BurnDevice::enumerate(DeviceType::Vulkan).into_vec(),
        // Burn's own `WebGpu` is the browser's.
        #[cfg(feature = "webgpu")]
        Backend::WebGpu => BurnDevice::enumerate(DeviceType::Wgpu).into_vec(),
        #[allow(unreachable_patterns)]
        _ => Vec::new(),
    }
}

#[cfg(any(feature = "metal", feature = "vulkan", feature = "webgpu"))]
fn is_software(device: &BurnDevice) -> bool {
    use burn::backend::{CubeDevice, DispatchDevice, WgpuDeviceKind};
    match device.as_dispatch() {
        DispatchDevice::Cube(CubeDevice::Wgpu(device)) => device.kind == WgpuDeviceKind::Cpu,
        _ => false,
    }
}

#[cfg(not(any(feature = "metal", feature = "vulkan", feature = "webgpu")))]
fn is_software(_: &BurnDevice) -> bool {
    false
}

/// Whether Burn can read an optimizer's state here: it does so on its own first device, whichever that of the training is.
///
/// # Errors
/// `DEVICE_ERROR` with the way out.
#[cfg(feature = "train")]
pub(crate) fn check_default() -> Result<()> {
    // Burn's order, which is not ours.
    let order = [
        Backend::Cuda,
        Backend::Metal,
        Backend::Rocm,
        Backend::Vulkan,
        Backend::WebGpu,
    ];
    let first = order.into_iter().find(|b| b.is_compiled_in());
    match first {
        Some(first) if list(first).is_empty() && std::env::var_os("BURN_DEVICE").is_none() => {
            Err(Error::Device(format!(
                "this build reads an optimizer's state through {}, of which this machine has no device: set the environment \
                 variable BURN_DEVICE=flex",
                first.name()
            )))
        }
        _ => Ok(()),
    }
}
