#!/bin/sh
# Puts a release on the idle colour, tests it there, flips to it, tests again, and goes back if that fails.
#
#   DEPLOY=./deploy SMOKE=./smoke deploy.sh shop v42
#
# shop v42                the group, and the release
# DEPLOY COLOUR VERSION   puts the release on a colour
# SMOKE preview|live      tests what the preview leads to, or what clients get
# DRAIN                   how long to wait for the old colour's connections (default: 1h)
#
# Ends as `switcher` does: 4, 5, 6 nothing was switched; 7 it was undone; 8 it may still be going on.
set -eu
: "${1:?the group}" "${2:?the version}" "${DEPLOY:?}" "${SMOKE:?}"
group=$1 version=$2

live=$(switcher status "$group" -o yaml | sed -n 's/^ *live: //p')
case $live in
blue) idle=green ;;
*) idle=blue ;;
esac

# Nobody rolls back to what is overwritten now.
switcher stage "$group" "$idle" --version "$version"
"$DEPLOY" "$idle" "$version"
switcher wait "$group" --for "healthy=$idle" --timeout 2m
"$SMOKE" preview

# Not if somebody else has flipped meanwhile.
switcher flip "$group" "$idle" --if-live "$live" --reason "deploy $version"

if ! "$SMOKE" live; then
    switcher rollback "$group" --reason "$version failed its test"
    exit 7
fi

# From now on the old colour may be stopped.
switcher wait "$group" --for drained --timeout "${DRAIN:-1h}"
