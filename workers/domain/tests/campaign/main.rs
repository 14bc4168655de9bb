//! Plans of campaigns: rows of cases, properties over random fleets, and models against histories whose truth is known.

mod drift;
mod fleet;
mod learning;
mod properties;
mod rows;
