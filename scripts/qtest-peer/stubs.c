/* What QEMU's test library refers to and these tests never reach: the human monitor. Only to link without QEMU. */
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>

void *monitor_cur(void) { return NULL; }
int monitor_vprintf(void *monitor, const char *format, va_list list) { return -1; }
int monitor_fdset_dup_fd_add(long long set, int flags) { return -1; }
void monitor_fdset_dup_fd_remove(int fd) {}

void qemu_set_cloexec(int fd)
{
    fcntl(fd, F_SETFD, fcntl(fd, F_GETFD) | FD_CLOEXEC);
}
