#!/bin/sh
# What the images run: `unisono` with what they were given, and for who has a Takeoff deployment,
#   docker run -e TAKEOFF_MODEL_NAME=... -p 3000:3000 IMAGE
# what that means of access. Takeoff has no keys, so its clients can send none: configured by its
# variables alone, the server is open to whoever can reach the published port, and says so. Keys
# (UNISONO_API_KEYS, --api-keys) or a word of one's own (UNISONO_ALLOW_ANONYMOUS,
# --[no-]allow-anonymous) go before that.
set -eu

says_who_may_ask() {
    [ -n "${UNISONO_API_KEYS:-}${UNISONO_ALLOW_ANONYMOUS:-}" ] && return 0
    for argument; do
        case $argument in
        --api-keys | --api-keys=* | --allow-anonymous | --no-allow-anonymous | --config | --config=*)
            return 0
            ;;
        esac
    done
    return 1
}

if [ -n "${TAKEOFF_MODEL_NAME:-}" ] && [ "${1:-}" = serve ] && ! says_who_may_ask "$@"; then
    export UNISONO_ALLOW_ANONYMOUS=true
    message="TAKEOFF_MODEL_NAME configures this server: as Takeoff's, it asks for no keys"
    message="$message; set UNISONO_API_KEYS to ask for them"
    if [ "${UNISONO_LOG_FORMAT:-text}" = json ]; then
        printf '{"time":"%s","level":"warning","process":"entrypoint","message":"%s"}\n' \
            "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$message" >&2
    else
        echo "unisono: $message" >&2
    fi
fi
exec unisono "$@"
