//! One golden file: its configuration, its arrays, and how far off ours are.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::SafeTensors;
use serde_json::Value;

/// A float64 array in row-major order.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) config: Value,
    pub(crate) arrays: BTreeMap<String, Array>,
}

impl Case {
    pub(crate) fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("a readable file");
        let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors header");
        let config = metadata
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get("config"))
            .unwrap_or_else(|| panic!("{} has no `config`", path.display()));
        let config: Value = serde_json::from_str(config).expect("`config` is JSON");
        let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let arrays = tensors
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                assert_eq!(
                    view.dtype(),
                    safetensors::Dtype::F64,
                    "{name} is not float64"
                );
                let values = view
                    .data()
                    .chunks_exact(8)
                    .map(|bytes| f64::from_le_bytes(bytes.try_into().expect("8 bytes")))
                    .collect();
                let shape = view.shape().to_vec();
                (name, Array { shape, values })
            })
            .collect();
        Self {
            name: config["name"]
                .as_str()
                .expect("a case has a name")
                .to_owned(),
            config,
            arrays,
        }
    }

    pub(crate) fn number(&self, key: &str) -> usize {
        self.config[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{}: `{key}` is no count", self.name)) as usize
    }

    pub(crate) fn word(&self, key: &str) -> &str {
        self.config[key]
            .as_str()
            .unwrap_or_else(|| panic!("{}: `{key}` is no word", self.name))
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.config[key].as_bool().unwrap_or(false)
    }

    pub(crate) fn array(&self, name: &str) -> &Array {
        self.arrays
            .get(name)
            .unwrap_or_else(|| panic!("{} has no array {name}", self.name))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.arrays.contains_key(name)
    }

    pub(crate) fn tensor<const D: usize>(&self, name: &str, dtype: DType) -> Tensor<D> {
        let array = self.array(name);
        assert_eq!(array.shape.len(), D, "{}: rank of {name}", self.name);
        Tensor::from_data(
            TensorData::new(array.values.clone(), array.shape.clone()),
            (&Device::flex(), dtype),
        )
    }
}

/// Relative error of every array that was compared.
#[derive(Default)]
pub(crate) struct Errors {
    by_array: RefCell<BTreeMap<String, f64>>,
}

impl Errors {
    /// Compares the whole of an array.
    pub(crate) fn compare<const D: usize>(&self, case: &Case, name: &str, ours: &Tensor<D>) {
        let expected = case.array(name);
        assert_eq!(
            ours.dims().to_vec(),
            expected.shape,
            "{}: shape of {name}",
            case.name
        );
        self.record(name, &numbers(ours), &expected.values, &expected.values);
    }

    /// Compares one row along the second axis, `[rows, index, ..]`.
    pub(crate) fn compare_at<const D: usize>(
        &self,
        case: &Case,
        name: &str,
        index: usize,
        ours: &Tensor<D>,
    ) {
        let expected = case.array(name);
        let outer = expected.shape[0];
        let inner: usize = expected.shape[2..].iter().product();
        let row = expected.shape[1] * inner;
        let part: Vec<f64> = (0..outer)
            .flat_map(|o| &expected.values[o * row + index * inner..][..inner])
            .copied()
            .collect();
        self.record(name, &numbers(ours), &part, &expected.values);
    }

    fn record(&self, name: &str, ours: &[f64], part: &[f64], whole: &[f64]) {
        assert_eq!(ours.len(), part.len(), "size of {name}");
        let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        let apart = ours.iter().zip(part).map(|(ours, theirs)| {
            let apart = (ours - theirs).abs();
            if apart.is_nan() { f64::INFINITY } else { apart }
        });
        let apart = largest(&mut apart.into_iter());
        let size = largest(&mut whole.iter().map(|x| x.abs()));
        let error = if size > 0.0 { apart / size } else { apart };
        let mut by_array = self.by_array.borrow_mut();
        let worst = by_array.entry(name.to_owned()).or_insert(0.0);
        *worst = worst.max(error);
    }

    pub(crate) fn worst(&self) -> (String, f64) {
        let by_array = self.by_array.borrow();
        let worst = by_array.iter().max_by(|a, b| a.1.total_cmp(b.1));
        worst.map_or(("nothing".to_owned(), f64::INFINITY), |(name, error)| {
            (name.clone(), *error)
        })
    }

    /// Results of the case that nothing was compared with.
    pub(crate) fn not_compared(&self, case: &Case) -> Vec<String> {
        let by_array = self.by_array.borrow();
        case.arrays
            .keys()
            .filter(|name| name.starts_with("out.") || name.starts_with("mid."))
            .filter(|name| !by_array.contains_key(*name))
            .map(|name| format!("{name} was not compared"))
            .collect()
    }
}

pub(crate) fn numbers<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor
        .to_data_as::<f64>()
        .try_into_vec::<f64>()
        .expect("numbers")
}
