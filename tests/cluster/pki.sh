# The cluster's certificates and kubeconfigs, by openssl. Sourced.
# shellcheck shell=bash

CERTIFICATE_DAYS=365

make_pki() {
	local pki=$STATE/pki
	mkdir -p "$pki"
	new_key "$pki/ca.key"
	openssl req -x509 -new -key "$pki/ca.key" -subj "/CN=$CLUSTER_NAME-ca" -days $CERTIFICATE_DAYS -out "$pki/ca.crt"
	new_key "$pki/sa.key"
	openssl pkey -in "$pki/sa.key" -pubout -out "$pki/sa.pub"

	certificate apiserver /CN=kube-apiserver \
		"DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$NODE_ADDRESS,IP:$API_SERVICE_ADDRESS"
	certificate node "/O=system:nodes/CN=system:node:$CLUSTER_NAME" "DNS:$CLUSTER_NAME,IP:$NODE_ADDRESS"
	certificate admin "/O=system:masters/CN=$CLUSTER_NAME-admin"
	certificate front-proxy /CN=front-proxy
	certificate controller-manager /CN=system:kube-controller-manager
	certificate scheduler /CN=system:kube-scheduler
	certificate proxy /CN=system:kube-proxy

	kubeconfig admin "$ADMIN_KUBECONFIG"
	local name
	for name in node controller-manager scheduler proxy; do
		kubeconfig $name "$pki/$name.kubeconfig"
	done
}

new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; } # FILE

certificate() { # NAME SUBJECT [SUBJECT_ALT_NAMES]
	local base=$STATE/pki/$1 extensions='extendedKeyUsage=serverAuth,clientAuth'
	new_key "$base.key"
	openssl req -new -key "$base.key" -subj "$2" -out "$base.csr"
	openssl x509 -req -in "$base.csr" -CA "$STATE/pki/ca.crt" -CAkey "$STATE/pki/ca.key" -CAcreateserial \
		-days $CERTIFICATE_DAYS -out "$base.crt" 2>/dev/null \
		-extfile <(printf '%s\n' "$extensions" "${3:+subjectAltName=$3}")
	rm "$base.csr"
}

# Everything inline, so that the file can be copied and still works.
kubeconfig() { # CERTIFICATE FILE
	local pki=$STATE/pki
	cat >"$2" <<-YAML
		apiVersion: v1
		kind: Config
		current-context: $CLUSTER_NAME
		clusters:
		- name: $CLUSTER_NAME
		  cluster: {server: "$API_URL", certificate-authority-data: $(base64 -w0 "$pki/ca.crt")}
		users:
		- name: $1
		  user: {client-certificate-data: $(base64 -w0 "$pki/$1.crt"), client-key-data: $(base64 -w0 "$pki/$1.key")}
		contexts:
		- name: $CLUSTER_NAME
		  context: {cluster: $CLUSTER_NAME, user: $1}
	YAML
	chmod 600 "$2"
}
