#!/bin/sh
# Checks that nginx accepts the example of docs/serving.md unchanged.
#
#   nginx_test.sh SOURCE
#
# Exits with 77 (skipped) if nginx is not installed.
set -eu
page=$1/docs/serving.md
PATH=$PATH:/usr/sbin
command -v nginx >/dev/null || {
    echo "skipped: nginx is not installed"
    exit 77
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The example is the indented block that starts with "upstream lckv".
sed -n '/^    upstream lckv {/,/^[^ ]/p' "$page" | sed -n 's/^    //p' >"$folder/lckv.conf"
grep -q proxy_pass "$folder/lckv.conf" || {
    echo "nginx_test: $page has no example for nginx" >&2
    exit 1
}
cat >"$folder/nginx.conf" <<END
pid $folder/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    include $folder/lckv.conf;
}
END
nginx -t -p "$folder" -c "$folder/nginx.conf"
