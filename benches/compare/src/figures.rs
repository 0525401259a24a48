//! Measured figures by name, or the reason why there is none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::store::{Error, Result};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Figure {
    Number(f64),
    Refused(String),
}

/// Nanoseconds per operation, unless the name says otherwise.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Figures(pub(crate) BTreeMap<String, Figure>);

impl Figures {
    /// Notes a number or a refusal, and passes a failure on.
    pub(crate) fn note(&mut self, name: &str, measured: Result<f64>) -> Result<()> {
        let figure = match measured {
            Ok(number) => Figure::Number(number),
            Err(Error::Refused(reason)) => Figure::Refused(reason.to_owned()),
            Err(error) => return Err(error),
        };
        self.0.insert(name.to_owned(), figure);
        Ok(())
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        match self.0.get(name)? {
            Figure::Number(number) => Some(*number),
            Figure::Refused(_) => None,
        }
    }

    /// Returns the means of the figures that both have.
    pub(crate) fn mean(&self, other: &Self) -> Self {
        let both = self.0.keys().filter_map(|name| {
            let mean = f64::midpoint(self.number(name)?, other.number(name)?);
            Some((name.clone(), Figure::Number(mean)))
        });
        Self(both.collect())
    }
}

/// Returns the median; of an even number the mean of the middle two.
pub(crate) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => None,
        len if len % 2 == 1 => Some(numbers[middle]),
        _ => Some(f64::midpoint(numbers[middle - 1], numbers[middle])),
    }
}
