"""What peer.c is for libpq, for psycopg2: peer.py CONNINFO. That one's header says what goes in and out."""

import os
import sys

import psycopg2

REPORT = "\\report "


def put(text):
    os.write(1, (text + "\n").encode("utf-8", "surrogateescape"))


def put_allotment(conn):
    text = conn.get_parameter_status("pgpool_monitor.allotment")
    put("allotment:" + ("(none)" if text is None else text) + "\n.")


def run(conn, line):
    try:
        with conn.cursor() as cursor:
            if line.startswith(REPORT):
                cursor.execute("SELECT pg_catalog.set_config('pgpool_monitor.report', %s, false)", (line[len(REPORT):],))
            else:
                cursor.execute(line)
            if cursor.description is None:
                return "result:" + (cursor.statusmessage or "")
            rows = cursor.fetchall()
            return "result:" + ("" if not rows or rows[-1][0] is None else str(rows[-1][0]))
    except psycopg2.Error as error:
        if conn.closed:
            return "error:gone"
        return "error:" + (error.pgcode or "-----") + " " + (error.diag.message_primary or str(error))


def main():
    try:
        conn = psycopg2.connect(sys.argv[1])
    except psycopg2.Error as error:
        put("error:" + str(error) + ".")
        return 1
    conn.autocommit = True
    put("result:" + str(conn.get_backend_pid()))
    put_allotment(conn)
    for line in sys.stdin:
        put(run(conn, line.rstrip("\n")))
        put_allotment(conn)
    conn.close()
    return 0


sys.exit(main())
