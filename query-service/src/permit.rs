//! What a caller may read: the scope `orders:read` is for the rows that are its subject's, `orders:read:any` for the
//! whole view.

use service_kit::{
    Problem,
    auth::{Caller, Reach},
    problem::kinds::FORBIDDEN,
};

use crate::catalog::{Owner, View};

const READ: &str = "read";

/// Whose rows the caller may read; `None`: everybody's. A view that does not say whose its rows are takes the scope
/// for all of them, so that one whose owners were forgotten shows nothing.
pub fn permit(caller: &Caller, view: &View) -> Result<Option<Owner>, Problem> {
    match caller.demand(&view.name, READ)? {
        Reach::Any => Ok(None),
        Reach::Own(subject) => view.owner_of(&subject).map(Some).ok_or_else(|| owns_nothing(view)),
        Reach::Nothing => Err(Caller::not_theirs(&view.name, READ)),
    }
}

fn owns_nothing(view: &View) -> Problem {
    let Some(owner) = view.owner.map(|owner| view.column(owner)) else {
        return Caller::not_theirs(&view.name, READ);
    };
    let (name, column) = (&view.name, &owner.name);
    let accepted = owner.kind.map_or("", |kind| kind.accepts());
    let detail = format!(
        "The token's subject can own no row of `{name}`: whose one is stands in `{column}`, which holds {accepted}, in \
         the spelling of answers. The scope `{name}:read:any` is for all rows."
    );
    Problem::new(FORBIDDEN, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::orders;

    #[test]
    fn who_cannot_own_a_row_is_told_why() {
        let nobodys = owns_nothing(&orders());
        assert!(nobodys.detail().contains("`orders:read:any`"), "{}", nobodys.detail());
        let accounts = owns_nothing(&View { owner: Some(1), ..orders() });
        for part in ["`account_id`", "a UUID", "`orders:read:any`"] {
            assert!(accounts.detail().contains(part), "{}", accounts.detail());
        }
        assert_eq!((nobodys.kind(), accounts.kind()), (FORBIDDEN, FORBIDDEN));
    }

    #[test]
    fn who_has_not_come_through_the_frame_reads_nothing() {
        assert_eq!(permit(&Caller::nobody(), &orders()).expect_err("no scope").kind(), FORBIDDEN);
        assert_eq!(permit(&Caller::anyone(), &orders()).expect("no tokens are asked for"), None);
    }
}
