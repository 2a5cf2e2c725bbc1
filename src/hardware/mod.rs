//! Which devices this machine has, and what of a model fits on them. Detection does the asking, `plan` is pure arithmetic.

mod cgroup;
pub mod devices;
mod explain;
pub mod footprint;
pub mod held;
pub mod isa;
mod nvidia;
mod place;
pub mod plan;
pub mod wanted;

#[cfg(test)]
mod plan_properties;
#[cfg(test)]
mod plan_rules;
#[cfg(test)]
mod plan_table;
#[cfg(test)]
mod samples;
