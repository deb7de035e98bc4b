/* Preloaded into a daemon: a disk and a network that are as bad as the test wants them at the moment.
 *
 * FAULTS names the beginning of paths. While `<FAULTS>.fails` is there, a sync fails; while
 * `<FAULTS>.hangs` is, it does not come back; `<FAULTS>.delays` says how many milliseconds a datagram
 * is on its way at most, each as long as chance has it, so that they overtake each other. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int is_there(const char *fault) {
    const char *faults = getenv("FAULTS");
    char path[4096];
    return faults && snprintf(path, sizeof path, "%s.%s", faults, fault) < (int)sizeof path &&
           access(path, F_OK) == 0;
}

static int sync_of(const char *name, int file) {
    while (is_there("hangs")) usleep(5000);
    if (is_there("fails")) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(file);
}

int fsync(int file) { return sync_of("fsync", file); }
int fdatasync(int file) { return sync_of("fdatasync", file); }

typedef ssize_t send_of(int, const void *, size_t, int, const struct sockaddr *, socklen_t);

static send_of *sends(void) { return (send_of *)dlsym(RTLD_NEXT, "sendto"); }

struct datagram {
    int socket, flags;
    unsigned delay_us;
    socklen_t to_len;
    struct sockaddr_storage to;
    size_t len;
    char bytes[];
};

static void *send_late(void *given) {
    struct datagram *late = given;
    usleep(late->delay_us);
    sends()(late->socket, late->bytes, late->len, late->flags, (struct sockaddr *)&late->to,
            late->to_len);
    close(late->socket);
    free(late);
    return NULL;
}

static unsigned most_delay_us(void) {
    const char *faults = getenv("FAULTS");
    char path[4096];
    unsigned ms = 0;
    if (!faults || snprintf(path, sizeof path, "%s.delays", faults) >= (int)sizeof path) return 0;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%u", &ms) != 1) ms = 0;
    fclose(file);
    return ms * 1000;
}

ssize_t sendto(int socket, const void *bytes, size_t len, int flags, const struct sockaddr *to,
               socklen_t to_len) {
    unsigned most = to ? most_delay_us() : 0;
    struct datagram *late = most ? malloc(sizeof *late + len) : NULL;
    pthread_t thread;
    if (!late || to_len > sizeof late->to || (late->socket = dup(socket)) < 0) {
        free(late);
        return sends()(socket, bytes, len, flags, to, to_len);
    }
    late->flags = flags;
    late->delay_us = (unsigned)random() % most;
    late->to_len = to_len;
    memcpy(&late->to, to, to_len);
    late->len = len;
    memcpy(late->bytes, bytes, len);
    if (pthread_create(&thread, NULL, send_late, late) != 0) {
        close(late->socket);
        free(late);
        errno = EAGAIN;
        return -1;
    }
    pthread_detach(thread);
    return (ssize_t)len;
}
