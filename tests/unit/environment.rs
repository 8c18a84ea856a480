//! What the operator writes into the collector's container is what the collector reads.

use audittrail_collector::serve::DRAIN_TIMEOUT;
use audittrail_collector::settings::{Role, Settings};
use audittrail_collector::telemetry::FLUSH_TIMEOUT;
use audittrail_crds::trail::CollectorSpec;
use audittrail_operator::names::Names;
use audittrail_operator::settings::Settings as OperatorSettings;
use audittrail_operator::trail::build::collector::TERMINATION_GRACE_SECONDS;
use audittrail_operator::trail::build::container::{HTTPS_PORT, LEAVE_SECONDS, collector_container};
use clap::{CommandFactory, Parser};
use k8s_openapi::api::core::v1::{Container, EnvVar};
use std::time::Duration;

fn container(spec: &CollectorSpec) -> Container {
    let operator = OperatorSettings::parse_from([
        "audittrail-operator",
        "--collector-image=collector",
        "--postgres-image=postgres",
        "--namespace=audittrail-system",
        "--service-account=audittrail-operator",
    ]);
    let names = Names { namespace: "team".to_owned(), trail: "acme".to_owned() };
    collector_container(&operator, &names, spec)
}

#[test]
fn the_rendered_environment_parses_as_the_collectors_settings() {
    let container = container(&CollectorSpec::default());
    let mut words = vec!["collector".to_owned()];
    words.extend(container.args.expect("the role"));
    words.extend(container.env.expect("an environment").iter().map(as_flag));

    let settings = Settings::try_parse_from(&words).expect("the collector understands it");
    let Role::Serve(serve) = settings.role else { panic!("the operator renders the collector of a workspace") };
    assert_eq!(serve.document.document_secret.as_deref(), Some("acme-collector"));
    assert_eq!(serve.namespace.as_deref(), Some("metadata.namespace"));
    assert_eq!(serve.replica(), "metadata.name");
    assert_eq!(i32::from(serve.listen.port()), HTTPS_PORT);
}

#[test]
fn a_collector_has_the_time_to_drain_before_it_is_killed() {
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).expect("a positive number"));
    // And one more, in which it takes itself off the list of replicas.
    let needed = seconds(LEAVE_SECONDS) + DRAIN_TIMEOUT + Duration::from_secs(1) + FLUSH_TIMEOUT;
    assert!(needed < seconds(TERMINATION_GRACE_SECONDS), "{needed:?}");
}

/// The flag which the collector reads from this variable; a value from a field is the field's path here.
fn as_flag(variable: &EnvVar) -> String {
    let settings = Settings::command();
    let serve = settings.find_subcommand("serve").expect("a role of the collector");
    let flag = serve
        .get_arguments()
        .find(|argument| argument.get_env().is_some_and(|name| *name == *variable.name))
        .unwrap_or_else(|| panic!("the collector does not read {}", variable.name));
    let field = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref()).map(|field| &field.field_path);
    let value = variable.value.as_ref().or(field).expect("a value");
    format!("--{}={value}", flag.get_long().expect("a long flag"))
}
