/* embedded.S - the demo model as bytes of the program (docs/DEMO-MODEL.md). */
    .section .rodata
    .balign 64
    .globl spark__embedded_begin
    .globl spark__embedded_end
    .hidden spark__embedded_begin
    .hidden spark__embedded_end
spark__embedded_begin:
#ifdef SPARK_DEMO_MODEL
    .incbin SPARK_DEMO_MODEL
#endif
spark__embedded_end:
    .byte 0
    .section .note.GNU-stack, "", %progbits
