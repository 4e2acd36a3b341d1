//! Queries of a caller who may see only their own rows: answered as if there were no others in the view.

use super::{ListQuery, RowQuery};
use crate::catalog::{Owner, View};

impl RowQuery {
    /// Where the key itself says whose row it is, nothing has to be read to tell.
    pub(super) fn confine(&mut self, view: &View, owner: &Owner) {
        if owner.column == view.key {
            self.is_nothing = self.key != owner.value;
        } else {
            self.owner = Some(owner.clone());
        }
    }
}

impl ListQuery {
    /// Adds that the rows are the owner's, so that an index has to serve that together with all else that is asked.
    /// Whoever asks for another owner's rows gets a list without any.
    pub(super) fn confine(&mut self, view: &View, owner: &Owner) {
        self.owner = Some(owner.clone());
        if owner.column == view.key {
            self.is_nothing = self.keys.as_ref().is_some_and(|keys| !keys.contains(&owner.value));
            self.keys = Some(vec![owner.value.clone()]);
        } else if self.keys.is_none() {
            let asked = self.equal.iter().filter(|(column, _)| *column == owner.column);
            let mut is_another = asked.into_iter().any(|(_, value)| *value != owner.value);
            if let Some((_, values)) = self.any.take_if(|(column, _)| *column == owner.column) {
                is_another |= !values.contains(&owner.value);
            }
            self.is_nothing = is_another;
            self.equal.retain(|(column, _)| *column != owner.column);
            self.equal.push((owner.column, owner.value.clone()));
        }
    }

    /// The owner whom the rows with some keys have to belong to. Where it is not this that says so, the key does or
    /// an equality.
    pub fn owner_beside_keys(&self, view: &View) -> Option<&Owner> {
        self.owner.as_ref().filter(|owner| self.keys.is_some() && owner.column != view.key)
    }
}

#[cfg(test)]
mod tests {
    use service_kit::Problem;

    use super::*;
    use crate::{
        catalog::tests::{ACCOUNT, ID, orders},
        cursor,
        parameters::Parameters,
        query::tests::{ACCOUNT as ADA, names},
    };

    const EVE: &str = "0192d3a4-5b6c-7d8e-9f00-112233445577";

    fn view(owner: usize) -> View {
        View { owner: Some(owner), ..orders() }
    }

    fn list_of(column: usize, subject: &str, query: &str) -> Result<ListQuery, Problem> {
        let view = view(column);
        ListQuery::parse(&view, &Parameters::parse(query)?, view.owner_of(subject).as_ref())
    }

    fn ada(query: &str) -> ListQuery {
        list_of(ACCOUNT, ADA, query).expect("served")
    }

    #[test]
    fn an_owner_is_one_more_equality_that_the_index_has_to_serve() {
        for query in ["sort=-placed_at", "placed_at[gte]=2026-01-01", "", "placed_at=2026-01-01&count=true"] {
            let query = ada(query);
            assert!(query.equal.contains(&(ACCOUNT, ADA.into())), "{query:?}");
            assert!(query.shape.equal.contains(&ACCOUNT) && !query.is_nothing, "{query:?}");
        }
        assert_eq!(names(&ada("").order), ["placed_at", "id"]);
        for query in ["sort=id", "reason=late", "lower(status)=placed", "status=cancelled&sort=-placed_at"] {
            let refusal = list_of(ACCOUNT, ADA, query).expect_err("no index has the account, too");
            assert_eq!(refusal.kind().code, "not-indexed", "{query}");
            assert!(refusal.detail().contains("`orders:read:any`"), "{}", refusal.detail());
        }
    }

    #[test]
    fn whoever_asks_for_themselves_asks_for_the_same() {
        for query in [&format!("account_id={ADA}"), &format!("account_id[in]={ADA},{EVE}")] {
            let asked = ada(&format!("{query}&sort=-placed_at"));
            assert_eq!(asked.equal, ada("sort=-placed_at").equal);
            assert_eq!((asked.any, asked.is_nothing), (None, false));
        }
    }

    #[test]
    fn whoever_asks_for_another_gets_nothing() {
        let other = EVE.replace('7', "8");
        for query in [&format!("account_id={EVE}"), &format!("account_id[in]={EVE},{other}")] {
            let asked = ada(query);
            assert!(asked.is_nothing, "{query}");
            assert_eq!(asked.equal, [(ACCOUNT, ADA.to_owned())]);
        }
    }

    #[test]
    fn keys_stay_what_they_are_beside_an_owner_and_are_theirs_where_they_say_whose_a_row_is() {
        let both = format!("id={ADA},{EVE}");
        let asked = ada(&both);
        assert_eq!(asked.keys.as_ref().map(Vec::len), Some(2));
        assert_eq!(asked.owner_beside_keys(&view(ACCOUNT)).map(|owner| owner.value.as_str()), Some(ADA));
        let own = |query| list_of(ID, ADA, query).expect("served");
        for (query, is_nothing) in [("", false), (both.as_str(), false), (&format!("id={EVE}"), true)] {
            let asked = own(query);
            assert_eq!((asked.keys.clone(), asked.is_nothing), (Some(vec![ADA.to_owned()]), is_nothing));
            assert_eq!(asked.owner_beside_keys(&view(ID)), None);
        }
        assert!(list_of(ID, ADA, "sort=-placed_at").is_err());
    }

    #[test]
    fn a_row_whose_key_is_its_owner_needs_no_look_and_another_says_whose_it_must_be() {
        let row = |column, key| {
            let view = view(column);
            RowQuery::parse(&view, key, &Parameters::of(&[]), view.owner_of(ADA).as_ref()).expect("served")
        };
        assert_eq!((row(ID, ADA).is_nothing, row(ID, EVE).is_nothing), (false, true));
        assert_eq!((row(ID, ADA).owner, row(ACCOUNT, EVE).is_nothing), (None, false));
        assert_eq!(row(ACCOUNT, EVE).owner.map(|owner| owner.value).as_deref(), Some(ADA));
    }

    #[test]
    fn a_cursor_of_one_caller_is_none_of_anothers_and_none_of_who_may_see_all() {
        let cursor_of = |query: &ListQuery| {
            let place = vec!["2026-01-02 00:00:00+00".to_owned(), ADA.to_owned()];
            cursor::encode(&place, &query.identity(&view(ACCOUNT)))
        };
        let mine = cursor_of(&ada("sort=-placed_at"));
        assert!(list_of(ACCOUNT, ADA, &format!("sort=-placed_at&cursor={mine}")).is_ok());
        let everybodys = list_of(ACCOUNT, "", &format!("account_id={ADA}&sort=-placed_at")).expect("served");
        for (subject, query, cursor) in [
            (EVE, "sort=-placed_at", &mine),
            ("", &format!("account_id={ADA}&sort=-placed_at"), &mine),
            (ADA, "sort=-placed_at", &cursor_of(&everybodys)),
        ] {
            let refusal = list_of(ACCOUNT, subject, &format!("{query}&cursor={cursor}"));
            assert_eq!(refusal.expect_err("another query").kind().code, "invalid-cursor");
        }
        let keys = format!("id={ADA},{EVE}");
        let mine = cursor_of(&ada(&keys));
        let refusal = list_of(ACCOUNT, EVE, &format!("{keys}&cursor={mine}"));
        assert_eq!(refusal.expect_err("another query").kind().code, "invalid-cursor");
    }
}
