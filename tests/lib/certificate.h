/*-------------------------------------------------------------------------
 *
 * certificate.h
 *	  Have the test's server speak TLS, with a certificate for the moment.
 *
 * The server has to listen at 127.0.0.1.  Include client.h before.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CERTIFICATE_H
#define CERTIFICATE_H

#ifndef CLIENT_H
#error "certificate.h: client.h comes first"
#endif

/* Returns when the server does. */
static inline void
speak_tls(PGconn *superuser)
{
	char *directory = query_text(superuser, "SHOW data_directory");
	char command[2000];
	char conninfo[100];
	bool speaks = false;

	snprintf(command, sizeof(command),
			 "cd '%s' && umask 077 && openssl req -new -x509 -newkey rsa:2048 -nodes -days 2 "
			 "-subj /CN=localhost -keyout server.key -out server.crt >openssl.log 2>&1",
			 directory);
	if (system(command) != 0)
		give_up("openssl made no certificate in %s", directory);
	free(directory);
	if (!run(superuser, "ALTER SYSTEM SET ssl = on") || !run(superuser, "SELECT pg_reload_conf()"))
		give_up("no TLS: %s", PQerrorMessage(superuser));
	snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 sslmode=require");
	for (double until = now_s() + PATIENCE_S; !speaks && now_s() < until; sleep_ms(20))
	{
		PGconn *probe = PQconnectdb(conninfo);

		speaks = PQstatus(probe) == CONNECTION_OK;
		PQfinish(probe);
	}
	if (!speaks)
		give_up("the server does not speak TLS");
}

#endif /* CERTIFICATE_H */
