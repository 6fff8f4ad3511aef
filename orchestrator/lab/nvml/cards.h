/* The cards of a make-believe NVML: no GPU is asked, all of it is read from a small text file. */

#ifndef AGENTRIG_MAKE_BELIEVE_CARDS_H
#define AGENTRIG_MAKE_BELIEVE_CARDS_H

#define MAKE_BELIEVE "agentrig make-believe NVML (no real GPU)"
#define CARDS_VARIABLE "AGENTRIG_MAKE_BELIEVE_GPUS"
#define CARDS_FILE "/etc/agentrig-make-believe-gpus"

#define MOST_CARDS 64

/* Values as in NVIDIA's nvml.h. */
enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
};

typedef struct card {
    int index;
    char name[96];
    unsigned long long total_mib;
    unsigned long long free_mib;
    int capability_major;
    int capability_minor;
    unsigned int domain;
    unsigned int bus;
    unsigned int device;
    int display;
    int mig;
    unsigned int pcie_generation; /* 0: unknown */
    unsigned int pcie_width;      /* 0: unknown */
} card;

typedef struct {
    char busIdLegacy[16];
    unsigned int domain;
    unsigned int bus;
    unsigned int device;
    unsigned int pciDeviceId;
    unsigned int pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;

typedef struct {
    unsigned long long total;
    unsigned long long free;
    unsigned long long used;
} nvmlMemory_t;

typedef struct {
    unsigned int version;
    unsigned long long total;
    unsigned long long reserved;
    unsigned long long free;
    unsigned long long used;
} nvmlMemory_v2_t;

int nvmlInit_v2(void);
int nvmlShutdown(void);
const char *nvmlErrorString(int result);
int nvmlSystemGetDriverVersion(char *version, unsigned int length);
int nvmlSystemGetCudaDriverVersion_v2(int *version);
int nvmlDeviceGetCount_v2(unsigned int *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, card **device);
int nvmlDeviceGetName(card *device, char *name, unsigned int length);
int nvmlDeviceGetUUID(card *device, char *uuid, unsigned int length);
int nvmlDeviceGetMemoryInfo(card *device, nvmlMemory_t *memory);
int nvmlDeviceGetPciInfo_v3(card *device, nvmlPciInfo_t *pci);
int nvmlDeviceGetCudaComputeCapability(card *device, int *major, int *minor);
int nvmlDeviceGetDisplayActive(card *device, unsigned int *active);
int nvmlDeviceGetMaxPcieLinkGeneration(card *device, unsigned int *generation);
int nvmlDeviceGetMaxPcieLinkWidth(card *device, unsigned int *width);
int nvmlDeviceGetMigMode(card *device, unsigned int *current, unsigned int *pending);

#endif
