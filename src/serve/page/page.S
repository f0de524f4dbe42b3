/* page.S - the page as bytes of the program. */
    .section .rodata
    .globl spark__page_begin
    .globl spark__page_end
    .hidden spark__page_begin
    .hidden spark__page_end
spark__page_begin:
    .incbin SPARK_PAGE
spark__page_end:
    .byte 0
    .section .note.GNU-stack, "", %progbits
