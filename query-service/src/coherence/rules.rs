//! The rules of [`Coherence`](super::Coherence), each of which a test can switch off to show what it is for.

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub late_terms_are_ignored: bool,
    pub terms_begin_anew: bool,
    pub silence_begins_anew: bool,
    pub gaps_raise_the_floor: bool,
    pub touched_rows_are_stamped: bool,
    pub lost_news_is_noticed: bool,
    // What whoever reads and keeps has to do.
    pub silence_is_not_served: bool,
    pub reads_of_another_term_are_not_kept: bool,
    pub what_is_old_already_is_not_kept: bool,
    pub standbys_that_are_behind_are_not_believed: bool,
    pub hits_are_of_this_timeline: bool,
    pub reads_end_the_term_before: bool,
    pub nobody_is_taken_back: bool,
}

impl Rules {
    pub const ALL: Self = Self {
        late_terms_are_ignored: true,
        terms_begin_anew: true,
        silence_begins_anew: true,
        gaps_raise_the_floor: true,
        touched_rows_are_stamped: true,
        lost_news_is_noticed: true,
        silence_is_not_served: true,
        reads_of_another_term_are_not_kept: true,
        what_is_old_already_is_not_kept: true,
        standbys_that_are_behind_are_not_believed: true,
        hits_are_of_this_timeline: true,
        reads_end_the_term_before: true,
        nobody_is_taken_back: true,
    };
}
