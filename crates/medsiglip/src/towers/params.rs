//! The parameters of a module by name: their path through its fields, which is their name in a checkpoint.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use sha2::{Digest, Sha256};

use super::numbers;
use crate::Result;

/// The id of the parameter of this name: the same in every run, so that an optimizer's state finds its parameter again.
pub(crate) fn id(name: &str) -> ParamId {
    let digest = Sha256::digest(name.as_bytes());
    let first: [u8; 8] = digest[..8].try_into().expect("a digest has 32 bytes");
    ParamId::from(u64::from_le_bytes(first))
}

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name in a checkpoint.
    pub name: String,
    /// Its id.
    pub id: ParamId,
    /// As stored.
    pub shape: Vec<usize>,
    /// Whether it is trained.
    pub trained: bool,
}

impl Parameter {
    /// How many numbers it has.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// All parameters of `module`, in the order of its fields.
pub fn list<M: Module>(module: &M) -> Vec<Parameter> {
    let mut lister = Lister::default();
    module.visit(&mut lister);
    lister.parameters
}

/// All parameters of `module` and their numbers.
///
/// # Errors
/// Where the device gives numbers that are not f32.
pub fn read<M: Module>(module: &M) -> Result<Vec<(Parameter, Vec<f32>)>> {
    let mut lister = Lister {
        values: Some(Vec::new()),
        ..Lister::default()
    };
    module.visit(&mut lister);
    let values = lister.values.unwrap_or_default();
    let values: Result<Vec<_>> = values.into_iter().collect();
    Ok(lister.parameters.into_iter().zip(values?).collect())
}

/// `module` with the numbers that `values` has for its parameters; the others stay.
pub fn write<M: Module>(module: M, values: HashMap<ParamId, Vec<f32>>) -> M {
    module.map(&mut Writer { values })
}

/// `module` whose parameters have the ids of their names, adapters included.
pub fn with_stable_ids<M: Module>(module: M) -> M {
    module.map(&mut Renamer { path: Vec::new() })
}

struct Renamer {
    path: Vec<String>,
}

impl ModuleMapper for Renamer {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (_, value, mapper) = param.consume();
        Param::from_mapped_value(id(&self.path.join(".")), value, mapper)
    }
}

#[derive(Default)]
struct Lister {
    path: Vec<String>,
    parameters: Vec<Parameter>,
    values: Option<Vec<Result<Vec<f32>>>>,
}

impl ModuleVisitor for Lister {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        self.parameters.push(Parameter {
            name: self.path.join("."),
            id: param.id,
            shape: value.dims().to_vec(),
            trained: value.is_require_grad(),
        });
        if let Some(values) = &mut self.values {
            values.push(numbers(value));
        }
    }
}

struct Writer {
    values: HashMap<ParamId, Vec<f32>>,
}

impl ModuleMapper for Writer {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(values) = self.values.remove(&param.id) else {
            return param;
        };
        param.map(|old| {
            let data = TensorData::new(values, old.shape());
            Tensor::from_data(data, &old.device()).set_require_grad(old.is_require_grad())
        })
    }
}
