//! What a caller may read: the scope `accounts:read` is for the rows that are its subject's, `accounts:read:any` for the
//! whole view.

use service_kit::{
    Problem,
    auth::{Caller, Reach},
};

const READ: &str = "read";

/// Whether the caller may read the view. No view knows yet whose its rows are, so it takes the scope for all.
pub fn permit(caller: &Caller, view: &str) -> Result<(), Problem> {
    match caller.demand(view, READ)? {
        Reach::Any => Ok(()),
        Reach::Own(_) | Reach::Nothing => Err(Caller::not_theirs(view, READ)),
    }
}
