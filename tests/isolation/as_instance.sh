#!/bin/bash
#
# as_instance.sh COMMAND [ARGUMENT...]: run isolationtester with all its sessions in one pool instance, which the specs call "iso".
# pg_isolation_regress's --launcher, given by the Makefile and by tests/t/110_isolation.pl.

PGOPTIONS='-c pgpool_monitor.pool=isolation -c pgpool_monitor.instance=iso;follow=1;report=1' exec "$@"
