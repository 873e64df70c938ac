#!/bin/sh
# Make the secrets of compose.yaml in the folder secrets/ beside this file, each with 256 random bits. What is there stays as it is.
#
# The folder is for its owner alone. The files in it are readable to all, because compose mounts each as it is into containers
# whose user has another number.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
umask 022

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { [ -e "secrets/$1" ] || printf '%s' "$2" >"secrets/$1"; }

keep redis_password "$(random)"
keep mongo_password "$(random)"
keep api_key "$(random)"
keep redis_url "redis://:$(cat secrets/redis_password)@redis:6379/0"
keep mongo_url "mongodb://pushway:$(cat secrets/mongo_password)@mongo:27017/?replicaSet=rs0&authSource=admin"
