//! Hardware definitions shared by device models and drivers: registers as data, descriptors as
//! typed structs, each with the section of its specification.
