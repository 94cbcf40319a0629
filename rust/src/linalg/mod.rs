//! Small dense algebra, and the arrays that all methods read and write.
//!
//! | module | content |
//! |---|---|
//! | `norms`, `products` | norms that do not overflow, products in a fixed order |
//! | `eigen`, `spectral` | eigenvectors of small symmetric matrices, upper bounds of norms of small matrices |
//! | `outward` | sums and roundings of bounds |
//! | `layout` | rows of arrays, pieces of buffers that tasks write, numbers that must fit the precision |
//! | `rows`, `some_rows` | chosen rows of a problem, a look at some rows of an array |
//! | `halves` | half precision, in which arrays may come and go |
//! | `finite` | whether an array holds NaN or an infinity |

pub mod eigen;
pub mod finite;
pub mod halves;
pub mod layout;
pub mod norms;
pub mod outward;
pub mod products;
pub mod rows;
pub mod some_rows;
pub mod spectral;
