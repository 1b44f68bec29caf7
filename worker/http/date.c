/* The Date field (RFC 9110 section 5.6.7), made at most once a second. strftime would speak the
 * application's locale. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "worker/http/response.h"

const char *
http_date(void)
{
	static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[12][4] = {
	    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	static _Thread_local char text[64];
	static _Thread_local time_t made = -1;
	time_t now = time(NULL);
	struct tm tm;

	if (now == made || gmtime_r(&now, &tm) == NULL)
		return text;
	(void)snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
	    tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
	made = now;
	return text;
}
