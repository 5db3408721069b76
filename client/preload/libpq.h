/*-------------------------------------------------------------------------
 *
 * libpq.h
 *	  libpq as the pool calls it when it is preloaded.
 *
 * A preloaded library must not need libpq itself: most programs into which it is
 * loaded have none, and would not start, or start later for having to load
 * one.  So nothing here refers to libpq's symbols.  The compiler is told to
 * include this file first, everywhere, and each call goes through a table that is
 * filled when the program first connects (libpq.c).
 *
 * Our own functions of libpq's names are in this directory, which is compiled with
 * PQP_ENTRIES: there libpq is called by the name of the table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PQP_PRELOAD_LIBPQ_H
#define PQP_PRELOAD_LIBPQ_H

#include <libpq-events.h>
#include <libpq-fe.h>

#ifndef LIBPQ_HAS_ASYNC_CANCEL
typedef struct pg_cancel_conn PGcancelConn;
extern PGcancelConn *PQcancelCreate(PGconn *conn);
#endif

/* What is called, all of which every libpq since 14 has. */
#define PQP_LIBPQ_CALLS(X)         \
	X(PQbackendPID)                \
	X(PQcancel)                    \
	X(PQclear)                     \
	X(PQconnectPoll)               \
	X(PQconnectStart)              \
	X(PQconnectStartParams)        \
	X(PQconnectdb)                 \
	X(PQconnectdbParams)           \
	X(PQconnectionNeedsPassword)   \
	X(PQconninfo)                  \
	X(PQconninfoFree)              \
	X(PQconninfoParse)             \
	X(PQconsumeInput)              \
	X(PQenterPipelineMode)         \
	X(PQerrorMessage)              \
	X(PQexitPipelineMode)          \
	X(PQfinish)                    \
	X(PQflush)                     \
	X(PQfreeCancel)                \
	X(PQfreemem)                   \
	X(PQgetCancel)                 \
	X(PQgetResult)                 \
	X(PQhost)                      \
	X(PQhostaddr)                  \
	X(PQisBusy)                    \
	X(PQisnonblocking)             \
	X(PQnotifies)                  \
	X(PQparameterStatus)           \
	X(PQoptions)                   \
	X(PQpass)                      \
	X(PQpipelineStatus)            \
	X(PQpipelineSync)              \
	X(PQport)                      \
	X(PQregisterEventProc)         \
	X(PQregisterThreadLock)        \
	X(PQreset)                     \
	X(PQresetPoll)                 \
	X(PQresetStart)                \
	X(PQresultErrorField)          \
	X(PQresultStatus)              \
	X(PQsendQuery)                 \
	X(PQsendQueryParams)           \
	X(PQsetErrorContextVisibility) \
	X(PQsetErrorVerbosity)         \
	X(PQsetNoticeProcessor)        \
	X(PQsetNoticeReceiver)         \
	X(PQsetdbLogin)                \
	X(PQsetnonblocking)            \
	X(PQsocket)                    \
	X(PQsslInUse)                  \
	X(PQstatus)                    \
	X(PQtransactionStatus)         \
	X(PQuntrace)

typedef struct Libpq
{
#define PQP_LIBPQ_MEMBER(name) __typeof__(&name) name;
	PQP_LIBPQ_CALLS(PQP_LIBPQ_MEMBER)
#undef PQP_LIBPQ_MEMBER
	PGcancelConn *(*PQcancelCreate)(PGconn *conn); /* NULL: before 17 */
} Libpq;

/* The libpq whose connections are pooled. */
extern Libpq pqp_libpq;

#ifndef PQP_ENTRIES
#define PQbackendPID pqp_libpq.PQbackendPID
#define PQcancel pqp_libpq.PQcancel
#define PQclear pqp_libpq.PQclear
#define PQconnectPoll pqp_libpq.PQconnectPoll
#define PQconnectStart pqp_libpq.PQconnectStart
#define PQconnectStartParams pqp_libpq.PQconnectStartParams
#define PQconnectdb pqp_libpq.PQconnectdb
#define PQconnectdbParams pqp_libpq.PQconnectdbParams
#define PQconnectionNeedsPassword pqp_libpq.PQconnectionNeedsPassword
#define PQconninfo pqp_libpq.PQconninfo
#define PQconninfoFree pqp_libpq.PQconninfoFree
#define PQconninfoParse pqp_libpq.PQconninfoParse
#define PQconsumeInput pqp_libpq.PQconsumeInput
#define PQenterPipelineMode pqp_libpq.PQenterPipelineMode
#define PQerrorMessage pqp_libpq.PQerrorMessage
#define PQexitPipelineMode pqp_libpq.PQexitPipelineMode
#define PQfinish pqp_libpq.PQfinish
#define PQflush pqp_libpq.PQflush
#define PQfreeCancel pqp_libpq.PQfreeCancel
#define PQfreemem pqp_libpq.PQfreemem
#define PQgetCancel pqp_libpq.PQgetCancel
#define PQgetResult pqp_libpq.PQgetResult
#define PQhost pqp_libpq.PQhost
#define PQhostaddr pqp_libpq.PQhostaddr
#define PQisBusy pqp_libpq.PQisBusy
#define PQisnonblocking pqp_libpq.PQisnonblocking
#define PQnotifies pqp_libpq.PQnotifies
#define PQparameterStatus pqp_libpq.PQparameterStatus
#define PQoptions pqp_libpq.PQoptions
#define PQpass pqp_libpq.PQpass
#define PQpipelineStatus pqp_libpq.PQpipelineStatus
#define PQpipelineSync pqp_libpq.PQpipelineSync
#define PQport pqp_libpq.PQport
#define PQregisterEventProc pqp_libpq.PQregisterEventProc
#define PQregisterThreadLock pqp_libpq.PQregisterThreadLock
#define PQreset pqp_libpq.PQreset
#define PQresetPoll pqp_libpq.PQresetPoll
#define PQresetStart pqp_libpq.PQresetStart
#define PQresultErrorField pqp_libpq.PQresultErrorField
#define PQresultStatus pqp_libpq.PQresultStatus
#define PQsendQuery pqp_libpq.PQsendQuery
#define PQsendQueryParams pqp_libpq.PQsendQueryParams
#define PQsetErrorContextVisibility pqp_libpq.PQsetErrorContextVisibility
#define PQsetErrorVerbosity pqp_libpq.PQsetErrorVerbosity
#define PQsetNoticeProcessor pqp_libpq.PQsetNoticeProcessor
#define PQsetNoticeReceiver pqp_libpq.PQsetNoticeReceiver
#define PQsetdbLogin pqp_libpq.PQsetdbLogin
#define PQsetnonblocking pqp_libpq.PQsetnonblocking
#define PQsocket pqp_libpq.PQsocket
#define PQsslInUse pqp_libpq.PQsslInUse
#define PQstatus pqp_libpq.PQstatus
#define PQtransactionStatus pqp_libpq.PQtransactionStatus
#define PQuntrace pqp_libpq.PQuntrace
#endif

#endif /* PQP_PRELOAD_LIBPQ_H */
