#!/usr/bin/env bash
# build.sh [image]: builds the image that dev.sh runs in. BASE_IMAGE=… builds it on another base.
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source docker/lib.sh

image=${1:-${IMAGE:-$(default_image)}}
case $image in
*:mac) dockerfile=docker/Dockerfile.mac ;;
robotics-rl:latest) dockerfile=docker/Dockerfile ;;
*) if has_gpu; then dockerfile=docker/Dockerfile; else dockerfile=docker/Dockerfile.mac; fi ;;
esac

options=(--tag "$image" --file "$dockerfile")
pass_on --build-arg BASE_IMAGE
exec docker build "${options[@]}" .
