#!/bin/sh
# Checks that the last stage of Containerfile installs the packages of the libraries that the program loads, and that
# .dockerignore excludes what git ignores.
#
#   container_test.sh SOURCE PROGRAM
#
# Exits with 77 (skipped) unless the system is that of the image, Debian 12: elsewhere packages have other names.
set -euf
source=$1 program=$2

for ignored in $(sed 's/#.*//; s|^/||; s|/$||' "$source/.gitignore"); do
    grep -qxF -e "$ignored" -e "**/$ignored" "$source/.dockerignore" || {
        echo "container_test: .dockerignore has no line '$ignored', which .gitignore has" >&2
        exit 1
    }
done

grep -qx 'VERSION_ID="12"' /etc/os-release 2>/dev/null && grep -qx 'ID=debian' /etc/os-release || {
    echo "skipped: this system is not Debian 12, which the image is made of"
    exit 77
}

installed=$(sed -n 's/.*apt-get install -y --no-install-recommends \([^\\]*\).*/\1/p' "$source/Containerfile")
[ -n "$installed" ] || {
    echo "container_test: Containerfile installs nothing" >&2
    exit 1
}
# apt installs what these libraries need themselves. The image is built without MPI and CUDA.
status=0
for object in "$program" "$(ldd "$program" | sed -n 's/.*=> \(.*liblckv[^ ]*\) .*/\1/p')"; do
    [ -e "$object" ] || continue
    for library in $(objdump -p "$object" | sed -n 's/ *NEEDED *//p' | grep -Ev '^(liblckv|libmpi|libcuda|libcublas|libnccl|ld-linux)'); do
        path=$(readlink -f "$(ldd "$object" | sed -n "s|^[[:space:]]*$library => \([^ ]*\) .*|\1|p")")
        package=$(dpkg -S "$path" "${path#/usr}" 2>/dev/null | sed 's/:.*//; q')
        case " $installed libc6 " in
        *" $package "*) ;;
        *)
            echo "container_test: $library is of the package '$package', which Containerfile does not install" >&2
            status=1
            ;;
        esac
    done
done
exit $status
