//! A Kubernetes control plane of the tests' own: etcd and kube-apiserver on the loopback, no
//! kubelet, no controllers, no root. It has the chart's definitions and access rules installed, so
//! that tests of the operator run with the operator's own permissions.
//!
//! Programs come from `KUBEBUILDER_ASSETS` and helm from the PATH (`eval "$(tests/cluster/tools.sh env)"`).
//! Each daemon runs below a small shell that ends it, and removes the directory, when the test
//! process is gone, however it died.

use crate::issuer::Issuer;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long etcd and kube-apiserver may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// Pause between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(100);

/// Namespace in which the chart is rendered.
pub const OPERATOR_NAMESPACE: &str = "audittrail-system";

/// The operator's account there.
pub const OPERATOR_ACCOUNT: &str = "audittrail-operator";

/// A control plane. Ended when dropped, and when the process dies.
#[derive(Debug)]
pub struct ControlPlane {
    pub(crate) directory: PathBuf,
    programs: PathBuf,
    kubeconfig: Kubeconfig,
    pub(crate) pki: Pki,
    issuer: Issuer,
    ports: Ports,
    daemons: Mutex<Vec<Child>>,
}

impl ControlPlane {
    /// The control plane that all tests of one binary share; `None` where its programs are
    /// missing, and then it has said which.
    ///
    /// # Panics
    /// When it does not start, or when the programs are missing and `CI=true`.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: LazyLock<Option<ControlPlane>> = LazyLock::new(|| match programs() {
            Ok(programs) => Some(ControlPlane::start(programs)),
            Err(missing) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
                eprintln!("skipped: {missing}");
                None
            }
        });
        SHARED.as_ref()
    }

    fn start(programs: PathBuf) -> Self {
        // Another crate of the process may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = std::env::temp_dir().join(format!("audittrail-control-plane-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory can be made");
        let ports = Ports::free();
        let pki = Pki::make(&directory);
        let kubeconfig = pki.kubeconfig(ports.api);
        let issuer = Issuer::start();
        let control_plane = Self { directory, programs, kubeconfig, pki, issuer, ports, daemons: Mutex::default() };
        control_plane.write_configuration();
        control_plane.daemon("etcd", &etcd_flags(&control_plane.ports));
        control_plane.daemon("kube-apiserver", &apiserver_flags(&control_plane.ports));
        control_plane.wait_until_ready();
        control_plane.install_chart();
        control_plane
    }

    /// A client with all permissions. Each test makes its own: it belongs to the test's runtime.
    ///
    /// # Panics
    /// When its configuration is no good.
    pub async fn admin(&self) -> Client {
        Client::try_from(config(self.kubeconfig.clone()).await).expect("a client can be made")
    }

    /// The configuration of a client that is the operator's account, with the permissions that the
    /// chart gives it.
    ///
    /// # Panics
    /// When our own kubeconfig is no good.
    pub async fn operator(&self) -> kube::Config {
        let mut kubeconfig = self.kubeconfig.clone();
        for named in &mut kubeconfig.auth_infos {
            let auth = named.auth_info.get_or_insert_default();
            auth.impersonate = Some(format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_ACCOUNT}"));
        }
        config(kubeconfig).await
    }

    /// Where people of OpenID Connect sign in.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Port of the API server on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.ports.api
    }

    /// Runs kubectl as administrator, with `input`, and returns what it prints.
    ///
    /// # Panics
    /// When it fails; the message has its words.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        self.try_kubectl(arguments, input).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// Runs kubectl as administrator, with `input`, and returns what it prints.
    ///
    /// # Errors
    /// kubectl's own words when it fails.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        self.kubectl_as(&self.directory.join("kubeconfig"), arguments, input)
    }

    /// Runs kubectl with this kubeconfig and returns what it prints.
    ///
    /// # Errors
    /// kubectl's own words when it fails.
    pub fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new(self.programs.join("kubectl"))
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        io::copy(&mut input.as_bytes(), &mut child.stdin.take().expect("it has an input")).expect("it reads");
        let output = child.wait_with_output().expect("kubectl ends");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// Kills the API server and starts it again; returns when it is ready.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn restart_api_server(&self) {
        let mut api_server = self.daemons().pop().expect("the API server was started last");
        // The directory stays for the next one.
        io::copy(&mut "keep".as_bytes(), &mut api_server.stdin.take().expect("it has an input"))
            .expect("the shell reads");
        api_server.wait().expect("the shell ends");
        self.daemon("kube-apiserver", &apiserver_flags(&self.ports));
        self.wait_until_ready();
    }

    fn daemons(&self) -> MutexGuard<'_, Vec<Child>> {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_configuration(&self) {
        let text = serde_saphyr::to_string(&self.kubeconfig).expect("a kubeconfig is YAML");
        fs::write(self.directory.join("kubeconfig"), text).expect("it can be written");
        let authentication = self.issuer.authentication().to_string();
        fs::write(self.directory.join("authentication.json"), authentication).expect("it can be written");
    }

    /// Starts a program whose end, and whose directory's, follows ours: the shell waits for the
    /// end of its standard input, which only we hold open.
    fn daemon(&self, program: &str, flags: &[String]) {
        let log = File::options().create(true).append(true).open(self.directory.join(format!("{program}.log")));
        let log = log.expect("a log can be made");
        let child = Command::new("/bin/sh")
            .args([
                "-c",
                r#""$@" </dev/null & word=$(cat); kill -9 $!; wait; [ "$word" = keep ] || rm -rf "$PWD""#,
                "sh",
            ])
            .arg(self.programs.join(program))
            .args(flags)
            .current_dir(&self.directory)
            // Ctrl-C ends the test; the shell notices and ends the rest.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log has a second handle"))
            .stderr(log)
            .spawn()
            .expect("/bin/sh runs");
        self.daemons().push(child);
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + READY_WITHIN;
        while !self.is_ready() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.join("kube-apiserver.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                panic!("kube-apiserver is not ready within {READY_WITHIN:?}; its last lines: {tail:#?}");
            }
            thread::sleep(POLL);
        }
    }

    fn is_ready(&self) -> bool {
        let output = Command::new(self.programs.join("kubectl"))
            .args(["get", "--raw", "/readyz"])
            .env("KUBECONFIG", self.directory.join("kubeconfig"))
            .output();
        output.is_ok_and(|output| output.status.success())
    }

    fn install_chart(&self) {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/audittrail");
        let output = Command::new("helm")
            .args(["template", "audittrail", "--namespace", OPERATOR_NAMESPACE, "--kube-version", "1.33"])
            .arg(chart)
            .output()
            .expect("helm was there");
        assert!(output.status.success(), "helm template: {}", String::from_utf8_lossy(&output.stderr));
        let manifests = String::from_utf8(output.stdout).expect("helm prints text");
        self.kubectl(&["create", "namespace", OPERATOR_NAMESPACE], "");
        self.kubectl(&["apply", "--server-side", "-f", "-"], &manifests);
        self.kubectl(
            &[
                "wait",
                "--for=condition=Established",
                "--timeout=30s",
                "crd",
                "audittrails.audittrail.dev",
                "auditforwardings.audittrail.dev",
            ],
            "",
        );
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for daemon in self.daemons().iter_mut() {
            drop(daemon.stdin.take());
            // The shell ends by itself now, and removes the directory.
            let _ = daemon.wait();
        }
    }
}

async fn config(kubeconfig: Kubeconfig) -> kube::Config {
    let options = KubeConfigOptions::default();
    kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("our own kubeconfig is complete")
}

/// Where the programs are, or what is missing.
fn programs() -> Result<PathBuf, String> {
    let how = "tests at level api need it: run `tests/cluster/tools.sh control-plane` and `tests/cluster/tools.sh helm`, then `eval \"$(tests/cluster/tools.sh env)\"`";
    let directory = std::env::var_os("KUBEBUILDER_ASSETS").ok_or(format!("KUBEBUILDER_ASSETS is not set; {how}"))?;
    let directory = PathBuf::from(directory);
    for program in ["etcd", "kube-apiserver", "kubectl"] {
        let path = directory.join(program);
        if !path.exists() {
            return Err(format!("{} is missing; {how}", path.display()));
        }
    }
    match Command::new("helm").arg("version").output() {
        Ok(_) => Ok(directory),
        Err(error) => Err(format!("helm: {error}; {how}")),
    }
}

#[derive(Debug)]
struct Ports {
    etcd: u16,
    etcd_peer: u16,
    api: u16,
}

impl Ports {
    /// Ports that are free now. All are held until all are found, so that they differ.
    fn free() -> Self {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
        let [etcd, etcd_peer, api] = listeners.each_ref().map(|one| one.local_addr().expect("it is bound").port());
        Self { etcd, etcd_peer, api }
    }
}

fn etcd_flags(ports: &Ports) -> Vec<String> {
    let (client, peer) = (format!("http://127.0.0.1:{}", ports.etcd), format!("http://127.0.0.1:{}", ports.etcd_peer));
    vec![
        "--data-dir=etcd".to_owned(),
        "--unsafe-no-fsync".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ]
}

fn apiserver_flags(ports: &Ports) -> Vec<String> {
    let mut flags =
        vec![format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd), format!("--secure-port={}", ports.api)];
    let fixed = [
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        "--tls-cert-file=api.crt",
        "--tls-private-key-file=api.key",
        "--client-ca-file=ca.crt",
        "--authentication-config=authentication.json",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-signing-key-file=accounts.key",
        "--service-account-key-file=accounts.pub",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
        // No controller makes the default account of a namespace here.
        "--disable-admission-plugins=ServiceAccount",
    ];
    flags.extend(fixed.map(str::to_owned));
    flags
}

/// Certificates of the control plane, the administrator's, and what signs others.
pub(crate) struct Pki {
    pub(crate) authority: String,
    admin: (String, String),
    /// Signs client certificates.
    pub(crate) issuer: rcgen::Issuer<'static, KeyPair>,
    /// Signs tokens of service accounts.
    pub(crate) accounts: KeyPair,
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki").finish_non_exhaustive()
    }
}

impl Pki {
    fn make(directory: &Path) -> Self {
        let write = |name: &str, text: &str| fs::write(directory.join(name), text).expect("a file can be written");
        let key = || KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "control-plane");
        let authority_key = key();
        let authority = params.self_signed(&authority_key).expect("an authority can be made").pem();
        let issuer = rcgen::Issuer::new(params, authority_key);
        let leaf = |names: &[&str], organisation: &str| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(names).expect("names of ours");
            params.distinguished_name.push(DnType::CommonName, "audittrail-tests");
            params.distinguished_name.push(DnType::OrganizationName, organisation);
            let key = key();
            (params.signed_by(&key, &issuer).expect("a leaf can be signed").pem(), key.serialize_pem())
        };
        let (certificate, private_key) = leaf(&["127.0.0.1", "localhost"], "kube-apiserver");
        let accounts = key();
        write("ca.crt", &authority);
        write("api.crt", &certificate);
        write("api.key", &private_key);
        write("accounts.key", &accounts.serialize_pem());
        write("accounts.pub", &accounts.public_key_pem());
        let admin = leaf(&[], "system:masters");
        Self { authority, admin, issuer, accounts }
    }

    fn kubeconfig(&self, port: u16) -> Kubeconfig {
        use base64::Engine as _;
        let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        serde_json::from_value(serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "clusters": [{"name": "tests", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority-data": encoded(&self.authority),
            }}],
            "users": [{"name": "tests", "user": {
                "client-certificate-data": encoded(&self.admin.0),
                "client-key-data": encoded(&self.admin.1),
            }}],
        }))
        .expect("our own kubeconfig is complete")
    }
}
