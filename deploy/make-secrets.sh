#!/bin/sh
# Makes what docker-compose.yml reads from secrets/: passwords of its own, and a certificate to begin with. A file that
# is there already stays as it is, so this may run again, and your own certificate may lie there before.
#   sh deploy/make-secrets.sh [HOST]      HOST: the name that browsers call the page by; without one, localhost
# INDEX_NODES=HOST:PORT,HOST:PORT,…  in the environment: the index is a cluster, and these are nodes of it.
set -eu
umask 077
host=${1:-localhost}
mkdir -p secrets
cd secrets

# The folder is for its owner alone; containers get single files out of it, and read them as other users.
keep() { # NAME: its content comes by standard input, unless the file is there
    [ -s "$1" ] || { cat >"$1.new" && chmod 644 "$1.new" && mv "$1.new" "$1"; }
}
random() { od -An -N20 -tx1 /dev/urandom | tr -d ' \n'; } # hexadecimal, since they become parts of URLs

for name in admin_password metrics_token index_password broker_password s3_access_key s3_secret_key; do
    random | keep "$name"
done
# The owner's, who may do everything; then those of each service.
for redis in index broker; do
    scheme=redis place=redis-$redis:6379/0
    [ $redis = broker ] || [ -z "${INDEX_NODES:-}" ] || { scheme=redis+cluster place=$INDEX_NODES; }
    printf '%s://:%s@%s' $scheme "$(cat ${redis}_password)" "$place" | keep ${redis}_url
    services="embedder indexer maintenance evaluator web"
    [ $redis = broker ] || services="$services query" # which has to do with the index alone
    for service in $services; do echo "$service $(random)"; done | keep ${redis}_passwords
    for service in $services; do
        password=$(sed -n "s/^$service //p" ${redis}_passwords)
        test -n "$password" || { echo "secrets/${redis}_passwords lacks $service: delete it" >&2; exit 1; }
        printf '%s://%s:%s@%s' $scheme "$service" "$password" "$place" | keep ${redis}_url_$service
    done
done

# The store's: the owner's above, and a pair for each service.
services="embedder indexer maintenance evaluator web query"
for service in $services; do echo "$service $(random) $(random)"; done | keep s3_keys
for service in $services; do
    pair=$(sed -n "s/^$service //p" s3_keys)
    test -n "$pair" || { echo "secrets/s3_keys lacks $service: delete it" >&2; exit 1; }
    printf %s "${pair% *}" | keep s3_access_key_$service
    printf %s "${pair#* }" | keep s3_secret_key_$service
done

certificate() { # NAME SUBJECT ALTERNATIVE-NAMES DAYS: signed by itself
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "$4" -subj "/CN=$2" \
        -addext "subjectAltName=$3" -keyout "$1_key.new" -out "$1_certificate.new" 2>/dev/null
    chmod 644 "$1_key.new" "$1_certificate.new"
    mv "$1_key.new" "$1_key"
    mv "$1_certificate.new" "$1_certificate"
}
# What the parts of SeaweedFS show each other, with deploy/seaweedfs.yml.
[ -s store_certificate ] || certificate store store "IP:127.0.0.1,DNS:localhost" 3650

if [ ! -s tls_certificate ]; then
    certificate tls "$host" "DNS:$host" 825
    echo "secrets/tls_certificate is signed by itself: browsers warn of it until you put one of an authority there." >&2
fi
echo "The password of the account \"admin\" is in secrets/admin_password." >&2
