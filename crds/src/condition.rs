//! Condition types, and the closed lists of reasons they carry.
//!
//! `Ready`, `Reconciling` and `Stalled` follow the Kubernetes API conventions ("Typical status
//! properties") and kstatus: `Reconciling=True` while the operator expects to get there by
//! itself, `Stalled=True` when somebody has to do something. `docs/conditions.md` says what.

use std::fmt;

/// Type of a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Type {
    /// Verified to work.
    Ready,
    /// Not there yet, and getting there without help.
    Reconciling,
    /// Not there, and help is needed.
    Stalled,
    /// Trail: the database answers and belongs to this trail.
    StorageReady,
    /// Trail: the collector's pods are available and answer.
    CollectorReady,
    /// Trail: what the database is set to keeps an acknowledged event through a crash.
    Durable,
    /// Trail: the log goes on where it was; nothing that it was known to hold is gone.
    Continuous,
    /// Trail: events past the retention are kept, because a forwarding has yet to deliver them. Only there while True.
    RetentionHeld,
    /// Forwarding: the trail, Secrets and ConfigMaps it names exist and are usable.
    ReferencesResolved,
    /// Forwarding: the source accepts.
    SourceAccepting,
    /// Forwarding: copies of events that the source refused for good are kept aside. Only there while True.
    EventsParked,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Reason of a condition. The name is what `kubectl` shows.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// The closed list; `docs/conditions.md` has them all.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

reasons! {
    /// Trail ready: the collector answered, and a heartbeat row was written and read back.
    Verified,
    /// Trail: another `AuditTrail` of the namespace, made earlier, has the same workspace.
    WorkspaceNotUnique,
    /// A Secret that the resource names does not exist.
    SecretMissing,
    /// A Secret that the resource names lacks the key, or its value cannot be used.
    SecretInvalid,
    /// A ConfigMap that the resource names does not exist.
    ConfigMapMissing,
    /// A ConfigMap that the resource names lacks the key, or its value cannot be used.
    ConfigMapInvalid,
    /// The API server refused a child; the message has its words.
    ApplyFailed,
    /// The configuration document is larger than a Secret may be.
    ConfigurationTooLarge,
    /// Trail: `spec.catalogue` contradicts itself, or a JSON Schema in it cannot be used.
    CatalogueInvalid,
    /// Trail: the managed Postgres is starting or not available.
    StorageNotReady,
    /// Trail: the collector's pods are starting or not available.
    CollectorNotReady,
    /// Trail: pods are available but none answers.
    CollectorUnreachable,
    /// Trail: the collector answers, the database does not.
    DatabaseUnreachable,
    /// Trail: the database holds another trail.
    DatabaseInUse,
    /// The collectors have not yet applied the newest configuration.
    ConfigurationPending,
    /// Trail: the database may lose an acknowledged event in a crash.
    NotDurable,
    /// Trail: the database holds less than it had acknowledged: it was restored or rewound.
    DatabaseRewound,
    /// Trail: the database holds another log than before; the earlier one is gone from it.
    DatabaseReplaced,
    /// Trail: forwardings have yet to deliver events that are past the retention.
    ForwardingsBehind,
    /// Forwarding ready: the source accepted since the last change.
    SourceAccepts,
    /// Forwarding ready: Off, and every collector has stopped.
    Disabled,
    /// Forwarding: no `AuditTrail` of that name in this namespace.
    TrailMissing,
    /// Forwarding: its trail is not ready.
    TrailNotReady,
    /// Forwarding: everything that the resource names is there.
    Resolved,
    /// Forwarding: nothing is known yet about the source in this configuration.
    SourcePending,
    /// Forwarding: the source cannot be reached, is overloaded or fails.
    SourceUnavailable,
    /// Forwarding: the source refuses the write key.
    SourceRefusesKey,
    /// Forwarding: the endpoint is not an HTTP API source.
    SourceRefusesRequest,
    /// Forwarding: the source refuses one event after the other, or no more can be parked; forwarding waits there.
    SourceRefusesEvents,
    /// Forwarding: the source refused events for good; copies of them are parked, and the rest goes on.
    RefusedForGood,
    /// Forwarding: the events came from the very trail that they would be sent to.
    ForwardingLoop,
    /// Forwarding: `spec.filter` names something that there is not.
    FilterInvalid,
    /// Forwarding: the source that it asks for is being made.
    SourceNotCreated,
    /// Forwarding: the Public API refuses the token.
    TokenRefused,
    /// Forwarding: the Public API refuses to make the source.
    SourceRefused,
    /// Forwarding: the source that was made for it is switched off in its workspace.
    SourceSwitchedOff,
    /// Nothing in the way; the condition is as wished.
    AsExpected,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
