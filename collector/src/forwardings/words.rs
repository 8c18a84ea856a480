//! How a forwarding is, in words for people. The operator says more in the conditions of the resource, which knows the objects
//! that the configuration came from.

use audittrail_crds::report::{Forwarding, State};

/// What is, and what to do about it.
pub fn message(of: &Forwarding) -> String {
    let (sentence, waits) = match of.state {
        State::Disabled => ("Off: nothing is sent, and its place in the trail is kept", true),
        State::Pending => ("the source was not tried yet in this configuration", true),
        State::Accepting => ("the source accepts", false),
        State::Retrying => ("the source cannot be reached or fails: it is tried again for as long as it takes", true),
        State::KeyRefused => ("the source refuses the write key: put the right one in place. Nothing is skipped", true),
        State::EndpointRefused => {
            ("the endpoint does not answer as an HTTP API source: correct it. Nothing is skipped", true)
        }
        State::EventRefused => (
            "the source refuses one event after the other, or no more can be parked: check endpoint and format, leave such \
             events out, or replay what is parked. Nothing is skipped",
            true,
        ),
        State::Loop => {
            ("the source is a trail that the events came from: send them elsewhere, or leave them out", true)
        }
        State::FilterInvalid => ("the filter cannot be used: correct it. Nothing is skipped", true),
    };
    let waiting = waits.then(|| waiting(of));
    let error = of.last_error.as_ref().map(|error| format!("Last error: {error}"));
    [Some(sentence.to_owned()), waiting, error].into_iter().flatten().collect::<Vec<_>>().join(". ")
}

/// What has yet to be delivered.
fn waiting(of: &Forwarding) -> String {
    match of.lag_events {
        ..=0 => "No event waits".to_owned(),
        1 => format!("1 event waits, for {} s", of.lag_seconds),
        count => format!("{count} events wait, the oldest for {} s", of.lag_seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(state: State) -> Forwarding {
        Forwarding { state, lag_events: 7, lag_seconds: 90, ..Forwarding::default() }
    }

    #[test]
    fn who_accepts_says_no_more() {
        assert_eq!(message(&of(State::Accepting)), "the source accepts");
    }

    #[test]
    fn what_is_wrong_comes_with_what_waits_and_the_words_of_the_source() {
        let retrying = Forwarding { last_error: Some("503: busy".to_owned()), ..of(State::Retrying) };
        assert_eq!(
            message(&retrying),
            "the source cannot be reached or fails: it is tried again for as long as it takes. 7 events wait, the oldest for \
             90 s. Last error: 503: busy"
        );
    }

    #[test]
    fn what_waits_is_counted_in_words() {
        let off = |lag_events| message(&Forwarding { lag_events, ..of(State::Disabled) });
        let begin = "Off: nothing is sent, and its place in the trail is kept";
        assert_eq!(off(0), format!("{begin}. No event waits"));
        assert_eq!(off(1), format!("{begin}. 1 event waits, for 90 s"));
    }
}
