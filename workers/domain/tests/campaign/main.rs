//! Plans of campaigns: rows of cases, properties over random fleets, and models against histories whose truth is known.

mod fleet;
mod properties;
mod rows;
