//! Variables.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::parse::is_name;
use crate::unparse::quote;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variable {
    pub value: Option<String>,
    pub exported: bool,
    pub read_only: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Variables(BTreeMap<String, Variable>);

impl Variables {
    /// From `NAME=value` strings, exported.
    pub fn from_env<'e>(env: impl Iterator<Item = &'e str>) -> Self {
        let mut variables = Self::default();
        for (name, value) in env.filter_map(|entry| entry.split_once('=')) {
            if is_name(name) {
                let value = Some(value.to_string());
                let variable = Variable { value, exported: true, read_only: false };
                variables.0.insert(name.to_string(), variable);
            }
        }
        variables
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.value.as_deref()
    }

    /// Fails for a read-only variable.
    pub fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        let variable = self.0.entry(name.to_string()).or_default();
        if variable.read_only {
            return Err(format!("{name}: read-only variable"));
        }
        variable.value = Some(value);
        Ok(())
    }

    pub fn unset(&mut self, name: &str) -> Result<(), String> {
        if self.0.get(name).is_some_and(|variable| variable.read_only) {
            return Err(format!("{name}: read-only variable"));
        }
        self.0.remove(name);
        Ok(())
    }

    pub fn export(&mut self, name: &str) {
        self.0.entry(name.to_string()).or_default().exported = true;
    }

    pub fn make_read_only(&mut self, name: &str) {
        self.0.entry(name.to_string()).or_default().read_only = true;
    }

    /// The variable as it is, to be put back.
    pub fn save(&self, name: &str) -> Option<Variable> {
        self.0.get(name).cloned()
    }

    pub fn restore(&mut self, name: &str, saved: Option<Variable>) {
        match saved {
            Some(variable) => _ = self.0.insert(name.to_string(), variable),
            None => _ = self.0.remove(name),
        }
    }

    /// `NAME=value` of each exported variable, with `more` on top.
    pub fn environment(&self, more: &[(String, String)]) -> Vec<String> {
        let exported = self.0.iter().filter(|(_, variable)| variable.exported);
        let own = exported
            .filter(|(name, _)| !more.iter().any(|(other, _)| other == *name))
            .filter_map(|(name, variable)| Some((name, variable.value.as_ref()?)));
        let more = more.iter().map(|(name, value)| (name, value));
        own.chain(more).map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Commands that make the same variables in a shell that has the exported ones.
    pub fn script(&self, out: &mut String) {
        for (name, variable) in &self.0 {
            if let (Some(value), false) = (&variable.value, variable.exported) {
                out.push_str(&format!("{name}={}\n", quote(value)));
            }
            if variable.read_only {
                out.push_str(&format!("readonly {name}\n"));
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Variable)> {
        self.0.iter().map(|(name, variable)| (name.as_str(), variable))
    }
}
